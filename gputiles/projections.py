"""Projections: planes of a stack that are shown as one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What becomes of the values that lie above each other; the names are OMERO's."""

    MAXIMUM = "intmax"
    MEAN = "intmean"
    SUM = "intsum"


@dataclass(frozen=True, slots=True)
class Stack:
    """The plane that ``kind`` makes of some frames; it stands where a frame's number may."""

    kind: Kind
    frames: range


@dataclass(frozen=True, slots=True)
class Projection:
    """How a view shows stacks in place of frames: ``depth`` of them, ``stride`` apart, from its own on."""

    kind: Kind
    depth: int
    stride: int

    def stack(self, frame: int) -> Stack:
        """Return what is shown in place of ``frame``."""
        return Stack(self.kind, range(frame, frame + self.depth * self.stride, self.stride))
