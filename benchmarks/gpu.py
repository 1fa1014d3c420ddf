"""What a card does: copies, kernels by batch size, restyled viewports, styled tiles over HTTP.

``python benchmarks/gpu.py [--device cuda:N] [--out PREFIX]`` takes under 8 minutes and writes
PREFIX.json and PREFIX.md with card and versions, and with what was to be reached on an H100 beside what was
found. Files are compared with the host's. ``--stand-in`` runs all of it in miniature without a card: its
times mean nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import cardchunks, cardlibraries  # noqa: E402
from benchmarks.cardhttp import Load, over_http, percentiles  # noqa: E402
from benchmarks.cardreport import aims, markdown, versions  # noqa: E402
from gputiles.backends import Raster, RenderJob, load, modules  # noqa: E402
from gputiles.backends.card import Card  # noqa: E402
from gputiles.backends.crossover import Timed, crossover  # noqa: E402
from gputiles.backends.cuda import CudaBackend  # noqa: E402
from gputiles.backends.host import HostBackend  # noqa: E402
from gputiles.backends.nvencode import Writer  # noqa: E402
from gputiles.backends.paste import raster_of  # noqa: E402
from gputiles.cardtest import bandwidth, carried, shown  # noqa: E402
from gputiles.config import usable_cores  # noqa: E402
from gputiles.encoded import Encoding, Format  # noqa: E402
from gputiles.recipe import BandRecipe, Blend, Recipe  # noqa: E402

JPEG = Encoding(Format.JPEG, 80, 2)
PNG = Encoding(Format.PNG)
COLOURS = np.random.default_rng(2).integers(64, 256, (64, 3)).astype(np.float32)
SPILLED = 1 << 28  # bytes of pinned host memory
STYLES = count()  # no two batches have the same style


@dataclass(frozen=True)
class Plan:
    """How much is measured: the side of tiles, batch sizes, seconds of a measurement, HTTP clients."""

    side: int = 256
    batches: tuple[int, ...] = (1, 8, 64, 256)
    seconds: float = 1.0
    copies: tuple[int, ...] = (1 << 17, 1 << 20, 1 << 24, 1 << 27)
    viewport: int = 40
    channels: tuple[int, ...] = (8, 40)
    jpegs: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    clients: int = 64
    threads: tuple[int, ...] = (1, 8, 15)
    level2: int | None = None  # bytes of the card's cache, where the working set shall be smaller


MINIATURE = Plan(32, (1, 4), 0.01, (1 << 12, 1 << 16), 4, (3, 5), (1, 2), 4, (1,), 1 << 14)


class Bench:
    """One card, with rasters on it, and the measurements."""

    def __init__(self, backend: CudaBackend, plan: Plan) -> None:
        self.backend = backend
        self.plan = plan
        self.times: dict[str, list[tuple[Any, Any]]] = {}

    # -- timing

    def wall(self, call: Callable[[], object]) -> dict[str, float]:
        """Return milliseconds of a call: its percentiles over ``seconds``."""
        call()
        taken: list[float] = []
        end = time.perf_counter() + self.plan.seconds
        while time.perf_counter() < end or len(taken) < 3:
            began = time.perf_counter()
            call()
            taken.append((time.perf_counter() - began) * 1000)
        return percentiles(taken)

    @contextmanager
    def marked(self) -> Iterator[dict[str, list[tuple[Any, Any]]]]:
        """Mark the begin and end of each launch, and of each copy on its road."""
        device, times = self.backend.card.device, {}
        launch, copy = device.launch, device.copy

        def launching(name: str, table: Any, address: int) -> None:
            first = device.mark()
            launch(name, table, address)
            times.setdefault(name, []).append((first, device.mark()))

        def copying(what: str, to: int, address: int, size: int, stream: Any) -> None:
            first = device.mark(stream)
            copy(what, to, address, size, stream)
            times.setdefault(what, []).append((first, device.mark(stream)))

        device.launch, device.copy = launching, copying
        try:
            yield times
        finally:
            device.launch, device.copy = launch, copy

    def kernels(self, call: Callable[[], object], calls: int = 5) -> dict[str, float]:
        """Return the milliseconds of each kernel and copy in a call: medians of what the card says."""
        call()
        with self.marked() as times:
            for _ in range(calls):
                call()
        between = self.backend.card.device.between
        return self.backend.on_card(
            lambda: {
                f"{name}_ms": round(float(np.median([between(*pair) for pair in pairs])) * 1000, 4)
                for name, pairs in times.items()
            }
        )

    # -- what is rendered

    def rasters(self, number: int, channels: int) -> list[tuple[Raster, ...]]:
        """Return the resident channels of tiles: uint16, smooth with noise, windows of one large field."""
        rng = np.random.default_rng(channels)
        side, backend = self.plan.side, self.backend
        y, x = np.mgrid[: 4 * side, : 4 * side]
        field = rng.poisson(1500 + 1000 * np.sin(x / 17) * np.cos(y / 23)).astype(np.uint16)

        def plane() -> Raster:
            top, left = rng.integers(0, 3 * side, 2).tolist()
            window = field[top : top + side, left : left + side, np.newaxis].copy()
            return backend.card.upload(raster_of(window))

        def up() -> list[tuple[Raster, ...]]:
            made = [tuple(plane() for _ in range(channels)) for _ in range(number)]
            backend.card.courier.settle()
            return made

        return backend.on_card(up)

    def jobs(self, rasters: Sequence[tuple[Raster, ...]], encoding: Encoding) -> list[RenderJob]:
        """Return jobs of one new style, as when a slider moves."""
        number, side = next(STYLES), self.plan.side
        bands = tuple(
            BandRecipe(
                channel, 0, 100.0 + number % 500, 3500.0,
                np.array([(0, 0, 0, 255), (*COLOURS[channel % 64], 255)], np.float32), blend=Blend.ADDITIVE,
            )
            for channel in range(len(rasters[0]))
        )  # fmt: skip
        recipe = Recipe(tuple(range(len(rasters[0]))), bands)
        return [RenderJob(recipe, each, side, side, encoding) for each in rasters]

    def render(self, rasters: Sequence[tuple[Raster, ...]], encoding: Encoding) -> list[Any]:
        """Render a batch in a new style."""
        jobs, files = self.jobs(rasters, encoding), []
        for at in range(0, len(jobs), 64):
            files += self.backend.render(jobs[at : at + 64])
        failed = [file for file in files if not isinstance(file, bytes)]
        if failed:
            raise SystemExit(f"a tile failed: {failed[0]}")
        return files

    # -- measurements

    def compare(self) -> int:
        """Compare a batch with the host's files; return how many bytes they have."""
        host, total = HostBackend(1), 0
        for encoding in (JPEG, PNG):
            jobs = self.jobs(self.rasters(3, 4), encoding)
            on_host = [
                replace(job, rasters=tuple(raster_of(a) for a in self.backend.download(job.rasters)))
                for job in jobs
            ]
            files = self.backend.render(jobs)
            if [shown(file) for file in files] != [shown(file) for file in host.render(on_host)]:
                raise SystemExit("the card's files are not the host's")
            total += sum(map(len, files))
        host.close()
        return total

    def copies(self) -> dict[str, Any]:
        """Return GB/s of copies through pinned memory by size, and inside the card."""
        found: dict[str, Any] = {}
        for size in self.plan.copies:
            up, down = carried(self.backend, size)
            found[f"up {size >> 10} KiB"] = round(up / 1e9, 2)
            found[f"down {size >> 10} KiB"] = round(down / 1e9, 2)
        inside = bandwidth(self.backend, max(self.plan.copies) * 2)
        return {**found, "inside": round(inside / 1e9, 1)}

    def _each(self, work: Callable[[], object], times: int = 10) -> float:
        """Return the seconds that work takes on the stream of kernels."""
        device = self.backend.card.device
        work()
        first = device.mark()
        for _ in range(times):
            work()
        last = device.mark()
        device.fence()
        return max(device.between(first, last) / times, 1e-9)

    def launch(self) -> float:
        """Return the microseconds of a small launch, one after another."""
        card = self.backend.card

        def measure() -> float:
            table, address = _pasting(card)
            return self._each(lambda: card.device.launch("paste", table, address), times=200) * 1e6

        return round(self.backend.on_card(measure), 2)

    def graph(self) -> dict[str, float]:
        """Return the microseconds of five small launches: one by one, and as one CUDA graph of them."""
        card, stream = self.backend.card, self.backend.card.device._stream

        def measure() -> dict[str, float]:
            table, address = _pasting(card)

            def five() -> None:
                for _ in range(5):
                    card.device.launch("paste", table, address)

            stream.begin_capture()
            five()
            graph = stream.end_capture()
            taken = {"one_by_one_us": self._each(five, times=100)}
            taken["as_a_graph_us"] = self._each(lambda: graph.launch(stream), times=100)
            return {name: round(seconds * 1e6, 2) for name, seconds in taken.items()}

        return self.backend.on_card(measure)

    def stages(self) -> list[dict[str, Any]]:
        """Return the times of a batch and of its kernels, by batch size and encoding; the host's beside."""
        found = []
        for number in self.plan.batches:
            rasters = self.rasters(number, 4)
            for encoding in (JPEG, PNG):
                row = {"tiles": number, "encoding": encoding.format.name}
                row |= self.wall(lambda r=rasters, e=encoding: self.render(r, e))
                row |= self.kernels(lambda r=rasters, e=encoding: self.render(r, e))
                found.append(row)
        return found

    def jpegs(self) -> list[dict[str, Any]]:
        """Return the milliseconds of batches whose JPEGs the card encodes, and the host, by batch size."""
        habits, usual, found = self.backend.habits, self.backend.habits.card_jpegs, []
        for number in self.plan.jpegs:
            rasters, row = self.rasters(number, 4), {"tiles": number}
            for name, least in (("card_ms", 1), ("host_ms", number + 1)):
                habits.card_jpegs = least
                row[name] = self.wall(lambda r=rasters: self.render(r, JPEG))["p50_ms"]
            found.append(row)
        habits.card_jpegs = usual
        return found

    def decodes(self) -> list[dict[str, Any]]:
        """Return the times of batches of chunks, by compression."""
        return cardchunks.decodes(self.backend, self.wall, self.plan.side, self.plan.batches)

    def beside(self) -> dict[str, Any]:
        """Return what it costs to send a batch up while another is drawn."""
        number = min(64, max(self.plan.batches))
        rasters = self.rasters(number, 8)
        return cardchunks.beside(
            self.backend, self.wall, self.plan.side, number, lambda: self.render(rasters, JPEG)
        )

    def engines(self) -> list[dict[str, Any]]:
        """Return what nvImageCodec decodes, by threads and sides."""
        sides = (self.plan.side, 2 * self.plan.side)
        return cardchunks.engines(self.backend, self.plan.seconds / 2, self.plan.threads, sides)

    def composite(self) -> list[dict[str, Any]]:
        """Return the composite's share of the copy bandwidth, over more than four level 2 caches.

        The bound of its arithmetic is what it does over one tile again and again: no memory is in its way.
        """
        whole = bandwidth(self.backend, max(self.plan.copies) * 2)
        level2 = self.plan.level2 or self.backend.on_card(self.backend.card.device.facts)["level2"]
        found = []
        for bands in (1, 2, 4, 8, 16):
            tile = self.plan.side**2 * (2 * bands + 3)
            rasters = self.rasters(min(4 * level2 // tile + 1, 4096 // bands), bands)
            jobs = self.jobs(rasters, JPEG)
            rate, bound = (
                tile * len(jobs) / self._composite_seconds(some, apart=apart)
                for some, apart in ((jobs, True), (jobs[:1] * len(jobs), False))
            )
            row = {"bands": bands, "tiles": len(rasters), "caches": round(tile * len(rasters) / level2, 1)}
            row |= {"GB_per_s": round(rate / 1e9, 3), "arithmetic_GB_per_s": round(bound / 1e9, 3)}
            share = {
                "share_of_copy": round(rate / whole, 3),
                "share_of_bound": round(rate / min(whole, bound), 3),
            }
            found.append(row | share)
        return found

    def _composite_seconds(self, jobs: list[RenderJob], *, apart: bool) -> float:
        """Return the seconds of a launch that draws pictures, each in its own place or all in one."""
        card, side = self.backend.card, self.plan.side

        def measure() -> float:
            card.begin()
            plans = [self.backend.lanes[0].draughtsman._plan(job).picture for job in jobs]
            out = card.temporary(side * side * 3 * (len(jobs) if apart else 1))
            for at, plan in enumerate(plans):
                plan.table["out"] = out + (at * side * side * 3 if apart else 0)
            table = np.concatenate([plan.table for plan in plans])
            address = card.parcel.add(table)
            card.parcel.send()
            return self._each(lambda: card.device.launch("composite", table, address))

        return self.backend.on_card(measure)

    def blocks(self) -> dict[str, float]:
        """Return the JPEG kernel's milliseconds for 64 tiles by threads of a block."""
        rasters, usual = self.rasters(min(64, max(self.plan.batches)), 1), modules.THREADS["jpeg"]
        found = {}
        for threads in (1, 2, 4, 8, 16, 32):
            modules.THREADS["jpeg"] = threads
            found[str(threads)] = self.kernels(lambda: self.render(rasters, JPEG))["jpeg_ms"]
        modules.THREADS["jpeg"] = usual
        return found

    def encoders(self) -> list[dict[str, Any]]:
        """Return the times of 64 tiles, and their bytes, by who encodes: the card, nvImageCodec, the host."""
        habits, both = self.backend.habits, self.backend.habits.own
        rasters = self.rasters(min(64, max(self.plan.batches)), 4)
        writer = self._writer()
        found = []
        for encoding, own, other in (
            (PNG, both, None), (PNG, frozenset(), None),
            (JPEG, both, None), (JPEG, frozenset(), writer), (JPEG, frozenset(), None),
        ):  # fmt: skip
            habits.own, habits.writer = own, other
            is_card = encoding.format in own
            maker = "card" if is_card else "nvImageCodec" if other is not None else "host"
            row: dict[str, Any] = {"encoding": encoding.format.name, "encoder": maker, "tiles": len(rasters)}
            row |= self.wall(lambda e=encoding: self.render(rasters, e))
            files = self.render(rasters, encoding)
            found.append(row | {"bytes_of_a_tile": sum(map(len, files)) // len(files)})
        habits.own, habits.writer = both, None
        return found if writer is not None else [row for row in found if row["encoder"] != "nvImageCodec"]

    def _writer(self) -> Writer | None:
        """Return nvImageCodec's encoder, if it is installed and makes JPEGs as libjpeg does."""
        backend, library = self.backend, load.find_codecs()

        def made() -> Writer:
            writer = Writer(library, backend.card.device.number, backend.card.device.stream, backend.threads)
            writer.prove(backend.card)
            return writer

        writer = None if library is None else backend.on_card(made)
        return writer if writer is not None and (3, 2) in writer.kinds else None

    def viewports(self) -> list[dict[str, Any]]:
        """Return R1 and R1-40: a viewport of resident tiles in a new style, to bytes in host memory."""
        found = []
        for channels in self.plan.channels:
            rasters = self.rasters(self.plan.viewport, channels)
            row = {"tiles": self.plan.viewport, "channels": channels}
            found.append(row | self.wall(lambda r=rasters: self.render(r, JPEG)))
        return found

    def throughput(self) -> float:
        """Return tiles per second, composite and encode only, of batches of 64 with 8 channels."""
        rasters = self.rasters(min(64, max(self.plan.batches)), 8)
        return round(len(rasters) / self.wall(lambda: self.render(rasters, JPEG))["p50_ms"] * 1000)

    def overlap(self) -> float:
        """Return tiles per second as ``throughput`` does, with two batches under way."""
        halves = [self.rasters(min(64, max(self.plan.batches)), 8) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            taken = self.wall(lambda: list(pool.map(lambda half: self.render(half, JPEG), halves)))
        return round(sum(map(len, halves)) / taken["p50_ms"] * 1000)

    def spills(self) -> list[dict[str, Any]]:
        """Return the GB/s at which batches of tiles go to pinned host memory, and come back."""
        found = []
        for number in self.plan.batches:
            rasters = [raster for (raster,) in self.rasters(min(number, 64), 1)]
            size, spilled = sum(raster.weight for raster in rasters), self.backend.spill(rasters)
            row: dict[str, Any] = {"tiles": len(rasters)}
            for name, call in (
                ("spill_GB_per_s", partial(self.backend.spill, rasters)),
                ("restore_GB_per_s", partial(self.backend.restore, spilled)),
            ):
                row[name] = round(size / self.wall(call)["p50_ms"] / 1e6, 2)
            found.append(row)
        return found


def _pasting(card: Card) -> tuple[NDArray[Any], int]:
    """Return a table of one small job, and where it lies on the card."""
    card.begin()
    table = np.array([(0, card.temporary(256), 1, 1, 1, 1, 7)], modules.JOBS["Paste"])
    address = card.parcel.add(table)
    card.parcel.send()
    return table, address


def measure(backend: CudaBackend, plan: Plan) -> dict[str, Any]:
    """Run all measurements of a card."""
    bench = Bench(backend, plan)
    compared = bench.compare()  # before anything is timed
    jpegs = bench.jpegs()
    return {
        "card": backend.on_card(backend.card.device.facts),
        "versions": versions(),
        "compared_bytes": compared,
        "copies_GB_per_s": bench.copies(),
        "launch_us": bench.launch(),
        "five_launches": bench.graph(),
        "batches": bench.stages(),
        "jpegs_by_card_and_host": jpegs,
        "card_jpegs": crossover([Timed(*row.values()) for row in jpegs]),
        "decoders": backend.decoders or "host",
        "decoding": bench.decodes(),
        "sent_up_beside_kernels": bench.beside(),
        "nvImageCodec_by_threads": bench.engines(),
        "nvJPEG_encodes_by_threads": cardlibraries.encoders(backend, bench.wall, plan.side, plan.threads),
        "nvTIFF_by_regions": cardlibraries.tiffs(backend, bench.wall, plan.side),
        "nvCOMP_inflates": cardlibraries.inflates(backend, bench.wall, plan.side, plan.batches),
        "composite_against_copy": bench.composite(),
        "encoders": bench.encoders(),
        "jpeg_by_threads_of_a_block_ms": bench.blocks(),
        "R1_viewports": bench.viewports(),
        "R2_without_http_tiles_per_s": bench.throughput(),
        "R2_two_batches_under_way_tiles_per_s": bench.overlap(),
        "to_pinned_memory_and_back": bench.spills(),
    }


def main() -> None:
    """Measure, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("gpu-benchmark"))
    parser.add_argument("--stand-in", action="store_true")
    arguments = parser.parse_args()
    began, plan = time.perf_counter(), Plan()
    if arguments.stand_in:
        from tests.standin import StandIn, codecs, nvcomp

        load.find_cupy = lambda: StandIn(1 << 27)
        load.find_codecs = codecs
        cardlibraries.find_nvcomp = nvcomp
        plan = MINIATURE
    backend = load.load_backend(arguments.device, usable_cores(), spill_cache=SPILLED)
    if not isinstance(backend, CudaBackend):
        raise SystemExit("this measures a card: --device cuda")
    try:
        results = measure(backend, plan)
    finally:
        backend.close()
    load_of = Load(plan.side, plan.seconds, plan.clients, plan.viewport, results["card_jpegs"])
    results |= asyncio.run(over_http(arguments.device, load_of, arguments.out.resolve().parent))
    results["seconds"] = round(time.perf_counter() - began, 1)
    results["aims"] = aims(results)
    arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    arguments.out.with_suffix(".md").write_text(markdown(results) + "\n")
    print(markdown(results))
    print(f"of tiles of {plan.side} pixels: card-jpegs = {results['card_jpegs']}")


if __name__ == "__main__":
    main()
