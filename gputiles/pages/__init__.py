"""The pages that the server shows, as package data."""
