"""Traces: where the time of one request went, for ``Server-Timing``."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

BEGAN: ContextVar[float] = ContextVar("began")
"""When the request that is being answered came in, by ``time.perf_counter``."""


@dataclass(slots=True)
class Trace:
    """What one request waited for.

    ``stages`` are milliseconds by stage (queue, read, decode, downsample, render …); work
    that another request started and this one only waited for is not in it. ``cache`` says
    what the answer came from.
    """

    stages: dict[str, float] = field(default_factory=dict)
    cache: str = "miss"

    def add(self, stage: str, seconds: float) -> None:
        """Add ``seconds`` to a stage."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds * 1000.0
