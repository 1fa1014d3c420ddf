"""A fuzz of the corpus: damaged files are asked for everything, in a process of their own.

``python -m tests.fuzz --seconds 600 --seed 5`` runs long; what fails is kept with ``--keep``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import itertools
import json
import os
import random
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from gputiles import style
from gputiles.config import PICTURES, Config
from gputiles.counting import count
from gputiles.encoded import Encoding, Format
from gputiles.engine import Engine
from gputiles.errors import GputilesError
from gputiles.geometry import Rect
from gputiles.histograms import CountRequest, HistogramQuery
from gputiles.images import Image
from gputiles.metadata import describe
from gputiles.references import AssociatedRef
from gputiles.renderer import Renderer
from gputiles.request import RegionRequest, ThumbnailRequest, TileRequest, View
from gputiles.trace import Trace
from gputiles.walk import SUFFIXES, FileRef
from tests.conftest import ROOT, SHARED
from tests.mutations import mutate

MOST_BYTES = 8 << 20  # of a file; larger ones are cut
MOST_SECONDS = 5.0  # of processor time for one request: other load on the machine does not count
MOST_WAIT = 120.0  # seconds that a request may take on a busy machine before the process is given up
# What a file's requests may add to the process, in bytes, caches included. Tiles of a hundred samples
# take 26 MiB each, and a dozen of them are in flight; what was let through without a check took more.
MOST_GROWTH = 1 << 30
ADDRESSES = 12 << 30  # bytes of addresses that the process may have: beyond it the machine would suffer
CONFIG = {
    "tile_cache": 1 << 22, "raw_cache": 1 << 26, "workers": 2, "readers": 2, "revalidate": 0.0,
    "chunk_limit": 1 << 26, "synthesis_limit": 1 << 24, "associated_images": PICTURES,
}  # fmt: skip
SERVE = (sys.executable, "-X", "faulthandler", "-m", "tests.fuzz", "--serve")
STYLES = ({"bands": [{"min": "min:0.01", "max": "max:0.01", "palette": "#f80"}]}, {"min": 3, "max": 90})


@dataclass
class Mutant:
    """A damaged file: what it is made of, and what came of asking for it."""

    source: Path
    seed: str
    problems: list[str] = field(default_factory=list)
    refused: bool = False

    @property
    def name(self) -> str:
        """Which file, and how it is made again."""
        return f"{self.source.name} {self.seed!r}"


def corpus() -> list[Path]:
    """Return the image files of the shared data."""
    files = (path for top in ("cases", "data") for path in (SHARED / top).rglob("*"))
    return sorted(path for path in files if path.suffix in SUFFIXES)


def written(folder: Path) -> list[Path]:
    """Write small files of many codecs and layouts, as the shared data has not all of them."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:90, :70]
    grey = (rows * 2 + columns + rng.integers(0, 3, rows.shape)).astype(np.uint8)
    rgb = np.stack([grey, grey[::-1], 255 - grey], -1)
    plain: Any = {"photometric": "minisblack", "metadata": None}
    colour: Any = {"photometric": "rgb", "metadata": None, "tile": (32, 48)}
    files: dict[str, tuple[Any, dict[str, Any]]] = {
        f"{name}-{'little' if order == '<' else 'big'}.tif": (
            rgb,
            {**colour, "compression": name, "byteorder": order},
        )
        for name in ("jpeg", "webp", "png", "jpeg2000", "lerc", "lzma", "packbits")
        for order in "<>"
    }
    for name, predictor, planar in itertools.product(("lzw", "zlib", "zstd"), (1, 2), ("contig", "separate")):
        wide = rgb.astype(np.uint16) * 200
        array = wide if planar == "contig" else np.moveaxis(wide, -1, 0)
        options = {"compression": name, "predictor": predictor, "planarconfig": planar}
        files[f"{name}-{predictor}-{planar}.tif"] = (array, {**colour, **options})
    floats = grey.astype(np.float32) / 3
    files["float-3.tif"] = (floats, {**plain, "compression": "zlib", "predictor": 3, "rowsperstrip": 7})
    files["half.tif"] = (floats.astype(np.float16), {**plain, "compression": "lzw"})
    files["packed-lerc.tif"] = (
        grey,
        {**plain, "compression": "lerc", "compressionargs": {"compression": "zstd"}},
    )
    files["jpeg-420.tif"] = (
        rgb,
        {**colour, "photometric": "ycbcr", "compression": "jpeg", "subsampling": (2, 2)},
    )
    files["bits.tif"] = (grey.astype(np.uint16) * 16, {**plain, "bitspersample": 12})
    files["stack.ome.tif"] = (np.stack([grey] * 6).reshape(2, 3, 90, 70), {"metadata": {"axes": "ZCYX"}})
    files["imagej.tif"] = (np.stack([grey] * 6).reshape(2, 3, 90, 70), {"imagej": True})
    folder.mkdir()
    for name, (array, options) in files.items():
        tifffile.imwrite(folder / name, array, **options)
    return sorted(folder.iterdir())


def made(source: Path, seed: str) -> bytes:
    """Return the damaged bytes of a file."""
    return mutate(source.read_bytes()[:MOST_BYTES], random.Random(f"{source.name}|{seed}"))


# -- in the child: one line per file comes in, one line goes out


async def ask(engine: Engine, path: Path) -> list[str]:
    """Ask for everything that a file may have; return what it was refused with."""
    refusals: list[str] = []
    reference = FileRef(path, path.parent)
    image = await _timed(refusals, "open", lambda: engine.image(reference))
    await _timed(refusals, "validate", lambda: engine.validate(reference))
    if image is None:
        return refusals
    await ask_image(engine, image, refusals)
    for name in image.info.associated[:3]:
        other = await _timed(refusals, name, lambda name=name: engine.image(AssociatedRef(reference, name)))
        if other is not None:
            await ask_image(engine, other, refusals, brief=True)
            await engine.release(other.reference)
    await engine.release(reference)
    return refusals


async def ask_image(engine: Engine, image: Image, refusals: list[str], *, brief: bool = False) -> None:
    """Ask for the metadata of an image, for tiles, thumbnails, a histogram and what the file says."""
    renderer, info = engine.renderer, image.info
    json.dumps(describe(info), allow_nan=False)
    for number, request in enumerate(requests(image, brief=brief)):
        call = {ThumbnailRequest: Renderer.thumbnail, CountRequest: count}.get(type(request), Renderer.tile)
        await _timed(
            refusals,
            f"{number} {type(request).__name__}",
            lambda r=request, c=call: c(renderer, image, r, Trace()),
        )

    async def internals() -> None:
        async with engine.images.handle(image) as source:
            json.dumps(await engine.reading_room.run(source.internals))

    await _timed(refusals, "internals", internals)


def requests(image: Image, *, brief: bool) -> Iterator[Any]:
    """Yield requests of all kinds: few enough for a fuzz, and every code that reads a file in them."""
    info = image.info
    full, frames = info.levels - 1, len(info.frames)
    columns, rows = info.grid.tiles(full)
    views = [View(0, None), View(frames - 1, None, True, Encoding(Format.PNG))]
    views += [View(0, style.parse(each)) for each in STYLES]
    places = {(0, 0, 0), (full, 0, 0), (full, columns - 1, rows - 1), (full, columns // 2, rows // 2)}
    places |= {(z, 0, 0) for z in range(0, full, 3)}
    for view in views[:1] if brief else views:
        yield from (TileRequest(*place, view) for place in sorted(places))
        yield ThumbnailRequest(200, 200, view)
    width, height = min(info.width, 500), min(info.height, 500)
    region = RegionRequest(
        Rect(0, 0, width, height), width, height, View(0, None, True, Encoding(Format.JSON))
    )
    yield CountRequest(region, ((0, 0),), HistogramQuery())


async def _timed(refusals: list[str], what: str, call: Callable[[], Awaitable[Any]]) -> Any:
    """Run a request; note where it was refused. Raises what is no refusal, or TimeoutError."""
    faulthandler.dump_traceback_later(MOST_WAIT, exit=True)
    before = time.process_time()
    try:
        return await call()
    except GputilesError as error:
        refusals.append(f"{what}: {type(error).__name__}: {error}"[:300])
        return None
    finally:
        faulthandler.cancel_dump_traceback_later()
        taken = time.process_time() - before
        if taken > MOST_SECONDS:
            raise TimeoutError(f"{what}: {taken:.1f} s")


async def examine(engine: Engine, path: Path) -> dict[str, Any]:
    """Ask for everything of a file; return what was refused, what went wrong, and the growth in bytes."""
    base = _resident()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    refusals, problems = [], []
    try:
        refusals = await ask(engine, path)
    except Exception:
        problems.append(traceback.format_exc())
    grown = _resident("VmHWM") - base
    if grown > MOST_GROWTH:
        problems.append(f"the process grew by {grown >> 20} MiB")
    return {"refusals": refusals, "problems": problems, "growth": grown}


async def serve() -> None:
    """Answer every line, the path of a file, with a line of what came of it."""
    async with Engine(Config(**CONFIG)) as engine:  # type: ignore[arg-type]
        for line in sys.stdin:
            print(json.dumps(await examine(engine, Path(line.rstrip("\n")))), flush=True)


def _resident(what: str = "VmRSS") -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) * 1024


# -- in the parent


class Child:
    """A process that is asked for files, and begun anew where one ends it; ``command`` makes it."""

    def __init__(self, folder: Path, command: Sequence[str] = SERVE) -> None:
        self._folder = folder
        self._command = command
        self._process: subprocess.Popen[str] | None = None

    def ask(self, path: Path) -> dict[str, Any]:
        """Return what came of a file; of a process that ended, how."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
        ready = select.select([process.stdout], [], [], 20 * MOST_WAIT)[0]
        line = process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)  # type: ignore[no-any-return]
        process.kill()
        self.close()
        told = (self._folder / "stderr").read_text(errors="replace")[-6000:]
        return {"refusals": [], "problems": [f"the process ended: {process.returncode}\n{told}"], "growth": 0}

    def _start(self) -> subprocess.Popen[str]:
        with (self._folder / "stderr").open("w") as errors:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        return self._process

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            self._process.wait()
        self._process = None


def run(files: Sequence[Path], seeds: Iterable[str], seconds: float) -> Iterator[Mutant]:
    """Yield mutants of the files, one after the other, for so many seconds."""
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        child = Child(folder)
        try:
            for seed in seeds:
                for source in files:
                    if time.monotonic() > end:
                        return
                    yield try_one(child, folder, source, seed)
        finally:
            child.close()


def try_one(child: Child, folder: Path, source: Path, seed: str) -> Mutant:
    """Ask for a damaged file; those of a set lie beside the others of it."""
    is_set = source.parent.parent.name in ("data", "cases")
    place = folder / (source.parent.name if is_set else "single")
    if not place.exists():
        shutil.copytree(source.parent, place) if is_set else place.mkdir()
    path = place / source.name
    kept = path.exists()
    path.unlink(missing_ok=True)
    path.write_bytes(made(source, seed))
    answer = child.ask(path)
    path.unlink()
    if kept:
        shutil.copyfile(source, path)
    return Mutant(source, seed, answer["problems"], refused=bool(answer["refusals"]))


def main(arguments: Sequence[str]) -> int:
    """Run the fuzz from the command line; the status is whether anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that fail")
    parser.add_argument("--only", default="", help="files whose names have this in them")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
        asyncio.run(serve())
        return 0
    seeds = (f"{options.seed}.{number}" for number in range(1 << 30))
    with tempfile.TemporaryDirectory() as name:
        files = [path for path in (*written(Path(name) / "written"), *corpus()) if options.only in str(path)]
        random.Random(options.seed).shuffle(files)
        return report(run(files, seeds, options.seconds), options.keep)


def report(mutants: Iterator[Mutant], keep: Path | None) -> int:
    """Print what failed, and keep the files; return 1 where anything did."""
    done = failed = refused = 0
    for mutant in mutants:
        done, failed, refused = done + 1, failed + bool(mutant.problems), refused + mutant.refused
        if mutant.problems:
            print(f"\n{mutant.name}", *mutant.problems, sep="\n", flush=True)
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                kept = keep / f"{mutant.seed}-{mutant.source.name}"
                kept.write_bytes(made(mutant.source, mutant.seed))
    print(f"{done} files, {refused} of them refused in part, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
