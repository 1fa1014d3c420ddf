"""Rasters in sRGB: what an ICC conversion makes of them, in scratch memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gputiles.backends import tables
from gputiles.backends.addresses import address
from gputiles.backends.encode import Run
from gputiles.backends.tables import Placed
from gputiles.recipe import Conversion, Recipe


@dataclass(frozen=True, slots=True)
class Converter:
    """Converts by ``run``, which calls a kernel, into ``buffer``'s memory, ``length`` pixels a run.

    ``address`` says where an array, or what ``buffer`` returned, lies for the kernel.
    """

    run: Run
    buffer: Callable[[str, int], Any]
    length: int
    address: Callable[[Any], int] = address

    def shown(self, icc: Conversion | None, source: Placed, nodata: float | None, number: int = 0) -> Placed:
        """Return a raster as it is, or converted: in the buffer of that ``number`` until the next call."""
        if icc is None:
            return source
        rows, columns, samples = source.shape
        out = self.buffer(f"icc {number}", rows * columns * samples * source.dtype.itemsize)
        table = np.zeros(1, tables.ICC)
        tables.fill_icc(table[0], icc, source, nodata, self.length)
        for name, plane in (("out", out), ("curves", icc.curves), ("table", icc.table)):
            table[name] = self.address(plane)
        self.run("icc", table)
        return source._replace(pixels=self.address(out))

    def band_pixels(self, recipe: Recipe, sources: list[Placed], frames: list[int]) -> list[int]:
        """Return where the values of each band lie; ``frames`` says which source a band reads.

        Bands that leave out different values each see a conversion that keeps theirs.
        """
        if recipe.icc is None:
            return [sources[frame].pixels for frame in frames]
        wanted = [(frame, band.nodata) for frame, band in zip(frames, recipe.bands or (), strict=True)]
        made = {
            (frame, nodata): self.shown(recipe.icc, sources[frame], nodata, number).pixels
            for number, (frame, nodata) in enumerate(dict.fromkeys(wanted))
        }
        return [made[each] for each in wanted]
