"""Distributions: how often whole numbers from 1 on were seen, counted between powers of two."""

from __future__ import annotations

from typing import Any


class Distribution:
    """Counts of numbers up to 1, 2, 4, 8 … ``most``, and of those beyond; ``most`` is a power of two.

    To add a number costs a few steps of the interpreter, however many were added before.
    """

    __slots__ = ("_last", "counts", "sum")

    def __init__(self, most: int) -> None:
        self._last = most.bit_length()  # place of what is beyond the last bound
        self.counts = [0] * (self._last + 1)
        self.sum = 0

    def add(self, number: int) -> None:
        """Count a number."""
        self.counts[min((number - 1).bit_length(), self._last)] += 1
        self.sum += number

    def report(self) -> dict[str, Any]:
        """Return it, ready for JSON: ``counts`` has one more than the upper ``bounds``."""
        bounds = [1 << power for power in range(self._last)]
        return {"bounds": bounds, "counts": list(self.counts), "sum": self.sum}
