"""The routes: parse, await, respond."""
