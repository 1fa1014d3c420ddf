"""Benchmarks: gputiles against others, pair by pair, in one run (``python -m benchmarks``)."""
