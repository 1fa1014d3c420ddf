"""Neighbours: the files beside an image that it may name, here or on another server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gputiles.errors import GputilesError, NotFound
from gputiles.sources.blocks import Blocks
from gputiles.sources.bytesource import ByteSource, PathSource, Versioned
from gputiles.sources.remote import Place, RemotePath, RemoteSource


class Neighbours(Protocol):
    """The folder that an image lies in."""

    @property
    def name(self) -> str:
        """What the image itself is called."""

    def find(self, name: str) -> Versioned:
        """Return where a plain name leads. Raises NotFound, with the reason, where it may not be read."""

    def open(self, name: str) -> ByteSource:
        """Open a file; NotFound where there is none."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder here: what is read must lie, links followed, below ``root`` (None: in the folder itself)."""

    path: Path
    root: Path | None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def find(self, name: str) -> Path:
        """Return the path of a neighbour, there or not."""
        path = self.path.parent / name
        try:
            inside = path.resolve().is_relative_to((self.root or self.path.parent).resolve())
        except (OSError, RuntimeError):  # a circle of links
            inside = False
        if not inside:
            raise NotFound("lies outside the image folder")
        return path

    def open(self, name: str) -> PathSource:
        """Open a neighbour."""
        path = self.find(name)
        if not path.is_file():  # a pipe would be waited for
            raise NotFound("is missing")
        return PathSource(path)


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """The folder of a remote file; ``opened`` are the neighbours that were read."""

    place: Place
    blocks: Blocks
    opened: list[RemoteSource] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The file's name."""
        return self.place.name

    def find(self, name: str) -> RemotePath:
        """Return the place of a neighbour, if it is allowed."""
        return RemotePath(self.place.beside(name))

    def open(self, name: str) -> RemoteSource:
        """Open a neighbour."""
        source = RemoteSource(self.place.beside(name), self.blocks)
        self.opened.append(source)
        return source

    def failure(self) -> GputilesError | None:
        """Return what a read of a neighbour failed with, if one did."""
        return next((source.failure for source in self.opened if source.failure is not None), None)
