"""The pages that the server shows, and what they are made of, as package data."""
