"""Chunks decoded for a card: pictures by nvImageCodec, packed samples by a kernel, the rest by the host.

Each way is one batch. What the host has a part in goes up in loads, see ``loading.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from gputiles.backends import DecodeJob, Outcome, Raster, Tiles, packing
from gputiles.backends.arena import ALIGNED
from gputiles.backends.card import Card
from gputiles.backends.loading import Loading, Ready, covers, tiles_of, unloaded
from gputiles.backends.making import attempt
from gputiles.backends.nvimage import Pictures
from gputiles.backends.nvstreams import Stream, stream_of
from gputiles.backends.packing import Packed
from gputiles.backends.paste import decode_tiles, fetched
from gputiles.errors import GputilesError
from gputiles.geometry import Rect


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes batches for a card; ``pictures`` is None where there is no nvImageCodec."""

    card: Card
    helpers: Executor
    pictures: Pictures | None = None

    def decode(self, jobs: Sequence[DecodeJob]) -> list[Outcome[Tiles]]:
        """Decode each job's chunks once into one raster, or error, per tile of the job."""
        self.card.begin()
        jobs = list(self.helpers.map(fetched, jobs))
        loading = Loading(self.card)
        streams = {at: found for at, job in enumerate(jobs) if (found := self._streams(job))}
        packed = {at: packing.sizes(job) for at, job in enumerate(jobs) if at not in streams}
        hosts = self._by_host(jobs, [at for at, sizes in packed.items() if not loading.holds(sizes)])
        try:
            for at in sorted(packed.keys() - hosts.keys()):
                loading.add(at, Packed(jobs[at], loading.room(packed[at]), self.helpers))
            if streams:
                loading.found |= self.card.device.call(partial(self._by_card, jobs, streams))
                hosts |= self._by_host(jobs, streams.keys() - loading.found.keys())
            large = _load(hosts, loading)
        finally:
            loading.wait()  # helpers fill memory that the next batch uses
        self.card.run(partial(self._end, loading, large))
        return [loading.found[at] for at in range(len(jobs))]

    def _end(self, loading: Loading, large: dict[int, Tiles]) -> None:
        """Send the last load, and what is too large for any."""
        loading.send()
        for at, tiles in large.items():
            loading.found[at] = unloaded(partial(self._sent, tiles))

    def _sent(self, tiles: Tiles) -> Tiles:
        return tuple(self.card.upload(tile) if isinstance(tile, Raster) else tile for tile in tiles)

    def _by_host(self, jobs: Sequence[DecodeJob], chosen: Iterable[int]) -> dict[int, Future[Outcome[Tiles]]]:
        """Let helpers decode jobs."""
        return {at: self.helpers.submit(attempt, decode_tiles, jobs[at]) for at in chosen}

    # -- pictures

    def _streams(self, job: DecodeJob) -> list[Stream]:
        """Return the streams of a job's chunks if the card can decode and cut all of it, else none."""
        if self.pictures is None or job.mask:
            return []
        found = [stream_of(chunk, self.pictures.kinds) for chunk in job.chunks]
        streams = [stream for stream in found if stream is not None]
        if len(streams) < len(found) or not covers(job, [stream.shape[2] for stream in streams]):
            return []
        like = all((stream.shape[2], stream.dtype) == (job.samples, job.dtype) for stream in streams)
        fits = sum(stream.size + ALIGNED for stream in streams) <= self.card.scratch.size
        return streams if like and fits else []

    def _by_card(
        self, jobs: Sequence[DecodeJob], streams: dict[int, list[Stream]]
    ) -> dict[int, Outcome[Tiles]]:
        """Decode the streams of jobs as one batch; return the tiles of those of which all are decoded.

        The pixels lie in scratch memory, where they are no longer safe once this has returned.
        """
        assert self.pictures is not None
        addresses = {at: [self.card.scratch.take(each.size) for each in some] for at, some in streams.items()}
        every = [each for some in streams.values() for each in some]
        done = iter(self.pictures.decode(every, [each for some in addresses.values() for each in some]))
        good = {at: [next(done) for _ in some] for at, some in streams.items()}
        whole = [at for at, marks in good.items() if all(marks)]
        cut = {at: unloaded(partial(self._cut, jobs[at], streams[at], addresses[at])) for at in whole}
        self.card.go()
        return cut

    def _cut(self, job: DecodeJob, streams: Sequence[Stream], addresses: Sequence[int]) -> Tiles:
        """Queue what makes RGB of a job's decoded chunks, and the cutting of its tiles out of them."""
        pixel = job.samples * job.dtype.itemsize
        for stream, address in zip(streams, addresses, strict=True):
            if stream.ycbcr:
                self.card.convert(address, stream.shape, stream.dtype)

        def fill(rect: Rect, raster: Raster) -> None:
            for chunk, stream, address in zip(job.chunks, streams, addresses, strict=True):
                place, whole = chunk.place.intersect(rect), chunk.place
                if place is None:
                    continue
                pitch = stream.shape[1] * pixel
                begin = address + (place.y - whole.y) * pitch + (place.x - whole.x) * pixel
                to = raster.address + ((place.y - rect.y) * rect.width + place.x - rect.x) * pixel
                size = (place.width * pixel, place.height)
                self.card.paste(begin, to, size, (pitch, rect.width * pixel))

        return tiles_of(self.card, job, lambda _: None, fill)


def _load(hosts: dict[int, Future[Outcome[Tiles]]], loading: Loading) -> dict[int, Tiles]:
    """Load what the host has decoded; return what is too large for a tray."""
    large = {}
    for at, future in hosts.items():
        tiles = future.result()
        if isinstance(tiles, GputilesError):
            loading.found[at] = tiles
            continue
        ready = Ready(tiles)
        if loading.holds(ready.sizes):
            ready.load(loading.room(ready.sizes))
            loading.add(at, ready)
        else:
            large[at] = tiles
    return large


def prove(card: Card, pictures: Pictures) -> None:
    """Let nvImageCodec decode its trial pictures on the card."""
    card.begin()

    def fetch(address: int, array: Any) -> None:
        card.courier.down([(address, array)])

    place: Callable[[int], int] = card.scratch.take
    pictures.prove(place, fetch)
