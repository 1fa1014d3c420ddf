"""Chunks decoded for a card: what nvImageCodec is trusted with as one batch, the rest by the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from gputiles.backends import Chunk, DecodeJob, Outcome, Raster, Tiles
from gputiles.backends.arena import ALIGNED
from gputiles.backends.card import Card
from gputiles.backends.making import attempt, bare
from gputiles.backends.nvimage import Pictures, Stream, stream_of
from gputiles.backends.paste import decode_chunk, decode_tiles
from gputiles.errors import GputilesError, OutOfMemory
from gputiles.geometry import Rect


class Decoded(NamedTuple):
    """A chunk's pixels on the card: where they begin, and bytes from a row to the next."""

    address: int
    pitch: int


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes batches for a card; ``pictures`` is None where there is no nvImageCodec."""

    card: Card
    helpers: Executor
    pictures: Pictures | None = None

    def decode(self, jobs: Sequence[DecodeJob]) -> list[Outcome[Tiles]]:
        """Decode each job's chunks once into one raster, or error, per tile of the job."""
        streams = [self._streams(job) for job in jobs]
        futures = [
            None if found else self.helpers.submit(attempt, decode_tiles, job)
            for job, found in zip(jobs, streams, strict=True)
        ]
        hosts = [None if future is None else future.result() for future in futures]
        return self.card.run(partial(self._launch, jobs, streams, hosts))

    def _launch(
        self,
        jobs: Sequence[DecodeJob],
        streams: Sequence[list[Stream]],
        hosts: Sequence[Outcome[Tiles] | None],
    ) -> list[Outcome[Tiles]]:
        """Decode what has streams, and send up what the host has decoded, on the card's thread."""
        self.card.begin()
        decoded = iter(self._on_card(jobs, streams))
        outcomes = [
            self._cut(job, next(decoded)) if host is None else self._uploaded(host)
            for job, host in zip(jobs, hosts, strict=True)
        ]
        self.card.go()
        return outcomes

    # -- by the host

    def _uploaded(self, tiles: Outcome[Tiles]) -> Outcome[Tiles]:
        """Return a job's tiles on the card, or that it has no room for them."""
        if isinstance(tiles, GputilesError):
            return tiles
        try:
            return tuple(self.card.upload(tile) if isinstance(tile, Raster) else tile for tile in tiles)
        except OutOfMemory as error:
            return bare(error)

    # -- on the card

    def _streams(self, job: DecodeJob) -> list[Stream]:
        """Return the streams of a job's chunks if the card can decode and cut all of it, else none."""
        if self.pictures is None or job.mask or not _simple(job):
            return []
        found = [stream_of(chunk, self.pictures.kinds) for chunk in job.chunks]
        streams = [stream for stream in found if stream is not None]
        room = self.card.scratch.size
        if len(streams) < len(found) or sum(stream.size + ALIGNED for stream in streams) > room:
            return []
        like = all((stream.shape[2], stream.dtype) == (job.samples, job.dtype) for stream in streams)
        return streams if like else []

    def _on_card(
        self, jobs: Sequence[DecodeJob], streams: Sequence[list[Stream]]
    ) -> list[list[Decoded | GputilesError]]:
        """Decode the streams of all jobs as one batch; the chunks of each job that has any."""
        wanted = [
            (chunk, stream)
            for job, found in zip(jobs, streams, strict=True)
            if found
            for chunk, stream in zip(job.chunks, found, strict=True)
        ]
        if self.pictures is None or not wanted:
            return []
        addresses = [self.card.scratch.take(stream.size) for _, stream in wanted]
        done = self.pictures.decode([stream for _, stream in wanted], addresses)
        results = iter(
            [
                Decoded(address, stream.size // stream.shape[0]) if good else self._once_more(chunk, address)
                for (chunk, stream), address, good in zip(wanted, addresses, done, strict=True)
            ]
        )
        return [[next(results) for _ in found] for found in streams if found]

    def _once_more(self, chunk: Chunk, address: int) -> Decoded | GputilesError:
        """Decode a chunk on the host, to the place that was meant for it."""
        pixels = decode_chunk(chunk)
        if isinstance(pixels, GputilesError):
            return bare(pixels)
        self.card.courier.up(pixels, address)
        return Decoded(address, pixels.nbytes // pixels.shape[0])

    def _cut(self, job: DecodeJob, decoded: Sequence[Decoded | GputilesError]) -> Outcome[Tiles]:
        """Queue the cutting of a job's tiles out of its chunks."""
        try:
            return tuple(self._tile(job, rect, decoded) for rect in job.tiles)
        except OutOfMemory as error:
            return bare(error)

    def _tile(
        self, job: DecodeJob, rect: Rect, decoded: Sequence[Decoded | GputilesError]
    ) -> Raster | GputilesError:
        under = [
            (chunk.place, place, part)
            for chunk, part in zip(job.chunks, decoded, strict=True)
            for place in [chunk.place.intersect(rect)]
            if place is not None
        ]
        for _, _, part in under:
            if isinstance(part, GputilesError):
                return part
        raster = self.card.raster((rect.height, rect.width, job.samples), job.dtype, masked=False)
        pixel = job.samples * job.dtype.itemsize
        for whole, place, part in under:
            assert isinstance(part, Decoded)
            begin = part.address + (place.y - whole.y) * part.pitch + (place.x - whole.x) * pixel
            to = raster.address + ((place.y - rect.y) * rect.width + place.x - rect.x) * pixel
            size = (place.width * pixel, place.height)
            self.card.paste(begin, to, size, (part.pitch, rect.width * pixel))
        return raster


def _simple(job: DecodeJob) -> bool:
    """Say whether a job's chunks cover its tiles, once, with all samples and nothing beyond the level."""
    level = Rect(0, 0, *job.level)
    if any(chunk.sample for chunk in job.chunks):
        return False
    for rect in job.tiles:
        parts = [chunk.place.intersect(rect) for chunk in job.chunks]
        covered = sum(part.width * part.height for part in parts if part is not None)
        if rect.intersect(level) != rect or covered != rect.width * rect.height:
            return False
    return bool(job.tiles)


def prove(card: Card, pictures: Pictures) -> None:
    """Let nvImageCodec decode its trial pictures on the card."""
    card.begin()

    def fetch(address: int, array: Any) -> None:
        card.courier.down([(address, array)])

    place: Callable[[int], int] = card.scratch.take
    pictures.prove(place, fetch)
