"""The CUDA backend: a card's memory holds the rasters, one thread of its own does all its work.

A batch is one launch of each kernel that it needs. Whoever calls a verb has that thread launch it,
and waits, on its own, for what comes back: meanwhile the next batch is launched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

from numpy.typing import NDArray

from gputiles import capsules
from gputiles.backends import (
    DecodeJob,
    DownsampleJob,
    MeasureJob,
    Measurement,
    Outcome,
    Raster,
    RenderJob,
    ResampleJob,
    Tiles,
    decoding,
    making,
    nvtrials,
    proving,
)
from gputiles.backends.attic import Attic
from gputiles.backends.card import LANES, Card, sizes
from gputiles.backends.decoding import Decoder
from gputiles.backends.device import Device
from gputiles.backends.drawing import Draughtsman
from gputiles.backends.habits import Habits
from gputiles.backends.hostlib import installed
from gputiles.backends.making import bare
from gputiles.backends.nvencode import Writer
from gputiles.backends.nvimage import Pictures
from gputiles.encoded import Format
from gputiles.errors import DeviceLost, GputilesError, OutOfMemory, Unsupported

logger = logging.getLogger(__name__)

MOST = 64  # jobs of a batch


@dataclass(frozen=True, slots=True)
class Lane:
    """What one batch that is under way has for itself."""

    card: Card
    draughtsman: Draughtsman
    decoder: Decoder


J = TypeVar("J")
R = TypeVar("R")
Verb: TypeAlias = Callable[[Lane, Sequence[J]], list[Outcome[R]]]


class CudaBackend:
    """A card as a backend; ``cupy`` is the module, ``number`` the card, ``helpers`` host threads.

    ``wanted`` are the bytes of the shelf of rasters; None is what the card has left. ``spilled`` are
    those of pinned host memory for rasters that leave it. ``capacity`` and ``spare`` are what the
    shelves may hold. ``codecs`` is the module ``nvidia.nvimgcodec``; None: the host decodes everything.
    ``decoders`` tells pixels of its decoders from the host's, ``encoders`` the bytes of its files. Raises
    Unsupported where the card cannot be used.
    """

    name = "cuda"
    workers = LANES
    ahead = 1
    decodes = LANES - 1  # they wait for helpers, while others have the card
    unprepared = False  # the card's memory is there from the beginning

    def __init__(
        self,
        cupy: Any,
        number: int,
        helpers: int,
        wanted: int | None = None,
        codecs: Any = None,
        spilled: int = 0,
    ) -> None:
        self.threads = helpers
        self.lost: DeviceLost | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gputiles-cuda")
        self._helpers = ThreadPoolExecutor(helpers, thread_name_prefix="gputiles-helper")
        self._library = installed()
        self.habits = Habits()
        try:
            self._thread.submit(self._open, cupy, number, wanted, codecs, spilled).result()
        except BaseException:
            self._thread.shutdown()
            self._helpers.shutdown()
            raise

    def _open(self, cupy: Any, number: int, wanted: int | None, codecs: Any, spilled: int) -> None:
        device = Device(cupy, number, self._thread)
        free = device.memory()[0]
        shares = sizes(free, wanted)
        self.dlpack: tuple[int, int] | None = (capsules.CUDA, number)
        self.capacity = _capacity(free, wanted)
        self._attic = Attic(device, spilled)
        self.spare = self._attic.capacity
        self.card = Card(device, shares)
        try:
            self.encoders: Mapping[Format, str] = self._encoders(codecs, number)
            pictures = None if codecs is None else self._pictures(codecs, number)
        except DeviceLost as error:
            self.card.close()
            raise Unsupported(f"device: cuda:{number} cannot be used: its trial: {error}") from error
        device.counts.clear()
        self.decoders = f"nvimgcodec-{','.join(sorted(pictures.kinds))}" if pictures is not None else ""
        cards = [self.card, *(Card(device, shares, self.card) for _ in range(LANES - 1))]
        self.lanes = [self._lane(card, pictures) for card in cards]
        self._free: SimpleQueue[Lane] = SimpleQueue()
        for lane in self.lanes:
            self._free.put(lane)

    def _draughtsman(self, card: Card) -> Draughtsman:
        return Draughtsman(card, self._helpers, self._library, self.habits)

    def _lane(self, card: Card, pictures: Pictures | None) -> Lane:
        return Lane(card, self._draughtsman(card), Decoder(card, self._helpers, pictures))

    def _encoders(self, codecs: Any, number: int) -> dict[Format, str]:
        """Try out the card's own encoders, find others for what is wrong, and tell whose files differ."""
        habits, render = self.habits, self._draughtsman(self.card).render
        try:
            habits.own = proving.right_formats(self.card, render, self._library)
        except OutOfMemory as error:
            logger.warning("the card's encoders cannot be tried out: %s", error)
            habits.own = frozenset()
        for kind in (Format.JPEG, Format.PNG):
            if kind not in habits.own:
                logger.warning("others than the card encode %s: trial pictures were not right", kind.name)
        found = {Format.PNG: "png-card1"} if Format.PNG in habits.own else {}
        if Format.JPEG not in habits.own and codecs is not None:
            habits.writer = self._writer(codecs, number)
            found |= {Format.JPEG: "nvimgcodec"} if habits.writer is not None else {}
        return found

    def leave_to_host(self, form: Format) -> None:
        """Have the host encode files of a format from now on."""
        self.habits.own -= {form}
        self.encoders = {kind: name for kind, name in self.encoders.items() if kind is not form}

    def _writer(self, codecs: Any, number: int) -> Writer | None:
        """Return nvImageCodec's encoder, tried out; None where it cannot be made."""
        try:
            writer = Writer(codecs, number, self.card.device.stream, self.threads)
        except RuntimeError as error:
            logger.warning("the host encodes JPEG: nvImageCodec: %s", error)
            return None
        try:
            writer.prove(self.card)
        except OutOfMemory as error:
            logger.warning("the host encodes JPEG: %s", error)
        return writer if writer.kinds else None

    def _pictures(self, codecs: Any, number: int) -> Pictures | None:
        """Return the card's decoder of pictures, tried out; None where it cannot be made."""
        try:
            pictures = Pictures(codecs, number, self.card.device.stream, self.threads)
        except RuntimeError as error:
            logger.warning("the host decodes: nvImageCodec: %s", error)
            return None
        decoding.prove(self.card, pictures)
        wrong = sorted({stream.kind for stream, _ in nvtrials.trials()} - pictures.kinds)
        if wrong:
            logger.warning(
                "the host decodes %s: nvImageCodec's trial pictures are not right", ", ".join(wrong)
            )
        return pictures

    def batch_size(self, verb: str, waiting: int, job: Any) -> int:
        """Return the jobs of a batch: all that wait, up to ``MOST``."""
        return MOST

    def decode(self, jobs: Sequence[DecodeJob]) -> list[Outcome[Tiles]]:
        """Decode each job's chunks once into one raster, or error, per tile of the job."""
        return self._batch(lambda lane, some: lane.decoder.decode(some), jobs)

    def downsample(self, jobs: Sequence[DownsampleJob]) -> list[Outcome[Raster]]:
        """Make each job's tile from its children."""
        return self._batch(lambda lane, some: making.downsample(lane.card, some), jobs)

    def resample(self, jobs: Sequence[ResampleJob]) -> list[Outcome[Raster]]:
        """Cut and resize each job's region."""
        return self._batch(lambda lane, some: making.resample(lane.card, some), jobs)

    def measure(self, jobs: Sequence[MeasureJob]) -> list[Outcome[Measurement]]:
        """Measure each job's raster."""
        return self._batch(lambda lane, some: making.measure(lane.card, some), jobs)

    def render(self, jobs: Sequence[RenderJob]) -> list[Outcome[bytes]]:
        """Composite and encode each job's tile."""
        return self._batch(lambda lane, some: lane.draughtsman.render(some), jobs)

    def download(self, jobs: Sequence[Raster]) -> list[Outcome[NDArray[Any]]]:
        """Copy each raster to a new NumPy array of (rows, columns, samples)."""
        return self._batch(lambda lane, some: making.download(lane.card, some), jobs)

    def spill(self, jobs: Sequence[Raster]) -> list[Outcome[Raster | None]]:
        """Copy each raster to pinned host memory; None for those that find no room there."""
        return self._batch(lambda lane, some: list(self._attic.spill(lane.card, some)), jobs)

    def restore(self, jobs: Sequence[Raster]) -> list[Outcome[Raster]]:
        """Copy each raster that was spilled back to the card."""
        return self._batch(lambda lane, some: list(self._attic.restore(lane.card, some)), jobs)

    def fence(self, jobs: Sequence[None]) -> list[Outcome[None]]:
        """Wait until the card has done all that it was asked for until now, on other streams too."""
        try:
            self.card.device.fence()
        except DeviceLost as error:
            self.lost = bare(error)
        return [self.lost] * len(jobs)

    def on_card(self, function: Callable[[], R]) -> R:
        """Call ``function`` on the card's thread, where alone the card may be touched."""
        return self._thread.submit(function).result()

    def prepare(self) -> None:
        """Do nothing: there is nothing to prepare."""

    def close(self) -> None:
        """Free the card's memory and end the threads."""
        with suppress(GputilesError):  # of a device that is lost
            self._thread.submit(self.card.close).result()
        self._attic.close()
        self._thread.shutdown()
        self._helpers.shutdown()

    # -- what goes wrong

    def _batch(self, verb: Verb[J, R], jobs: Sequence[J]) -> list[Outcome[R]]:
        """Run a batch in the next lane that is free."""
        lane = self._free.get()
        try:
            return self._split(verb, lane, jobs)
        except BaseException:  # a bug: what had been launched may still use the lane
            self.fence(())
            raise
        finally:
            self._free.put(lane)

    def _split(self, verb: Verb[J, R], lane: Lane, jobs: Sequence[J]) -> list[Outcome[R]]:
        """Run a batch; where memory does not suffice for all of it, its halves."""
        if self.lost is not None:
            return [self.lost] * len(jobs)
        try:
            return verb(lane, jobs)
        except OutOfMemory as error:
            self.fence(())  # what had been launched still uses the lane
            if len(jobs) == 1:
                return [bare(error)]
        except MemoryError as error:
            return [OutOfMemory(f"not enough memory: {error}")] * len(jobs)
        except DeviceLost as error:
            self.lost = bare(error)
            return [self.lost] * len(jobs)
        half = len(jobs) // 2
        return [*self._split(verb, lane, jobs[:half]), *self._split(verb, lane, jobs[half:])]


def _capacity(free: int, wanted: int | None) -> int:
    """Return the bytes of the shelf of rasters on a card with ``free`` bytes; slabs waste the rest."""
    room = sizes(free, None).rasters
    most = room - room // 8
    if wanted is not None and wanted > most:
        logger.warning("raw-cache: %d bytes are more than the card has room for: %d", wanted, most)
    return most if wanted is None else min(wanted, most)
