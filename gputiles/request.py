"""Requests: what is asked of the renderer, parsed, frozen and hashable."""

from __future__ import annotations

from dataclasses import dataclass, field

from gputiles.encoded import Edge, Encoding
from gputiles.geometry import Rect
from gputiles.projections import Projection, Stack
from gputiles.style import Style


@dataclass(frozen=True, slots=True)
class View:
    """What to show of an image, wherever: a frame in a style and an encoding.

    ``style`` None is the default look. ``single`` limits that look to the frame's own
    channel: a request that names its frame wants that frame. With ``projection`` each frame
    that the look names is the first of a stack, whose projection is shown in its place.
    """

    frame: int = 0
    style: Style | None = None
    single: bool = False
    encoding: Encoding = field(default_factory=Encoding)
    projection: Projection | None = None

    def planes(self, frames: tuple[int, ...]) -> tuple[int | Stack, ...]:
        """Return what is shown of ``frames``: they themselves, or the stacks that begin with them."""
        return frames if self.projection is None else tuple(map(self.projection.stack, frames))


@dataclass(frozen=True, slots=True)
class TileRequest:
    """One tile: column ``x``, row ``y`` of level ``z`` (0 = coarsest) of a view."""

    z: int
    x: int
    y: int
    view: View = field(default_factory=View)
    edge: Edge = field(default_factory=Edge)


@dataclass(frozen=True, slots=True)
class ThumbnailRequest:
    """The whole image within ``width`` × ``height`` pixels, its aspect kept."""

    width: int = 256
    height: int = 256
    view: View = field(default_factory=View)


@dataclass(frozen=True, slots=True)
class RegionRequest:
    """``region`` of full-resolution pixels, inside the image, as ``width`` × ``height`` pixels."""

    region: Rect
    width: int
    height: int
    view: View = field(default_factory=View)

    @property
    def place(self) -> str:
        """What tells the region, at its size, from all others of the same view."""
        area = self.region
        return f"{area.x}|{area.y}|{area.width}|{area.height}|{self.width}|{self.height}"


@dataclass(frozen=True, slots=True)
class ViewportRequest:
    """Tiles of one view, each a ``(z, x, y)``, the most wanted first."""

    places: tuple[tuple[int, int, int], ...]
    view: View = field(default_factory=View)
    edge: Edge = field(default_factory=Edge)
