"""Kinds of samples that few laboratories write: complex ones."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile

from gputiles.errors import Unsupported
from gputiles.sources.open import open_source
from tests.reading import full
from tests.tiffs import Tags, page, tiff

RNG = np.random.default_rng(23)
ORDERS = ["<", ">"]

# -- complex samples


@pytest.mark.parametrize("dtype", ["c8", "c16"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "tile": (16, 32)}, {"rowsperstrip": 7}])
def test_complex_samples_are_their_magnitudes(
    dtype: str, order: str, planar: str, options: dict[str, Any]
) -> None:
    halves = RNG.standard_normal((40, 50, 2, 2)) * 10.0 ** RNG.integers(-30, 30, (40, 50, 2, 1))
    halves[0, 0, 0] = np.nan, np.inf
    half = {"c8": "f4", "c16": "f8"}[dtype]
    whole = halves.astype(half).view(dtype)[..., 0]
    file = io.BytesIO()
    stored = np.moveaxis(whole, -1, 0) if planar == "separate" else whole
    tifffile.imwrite(file, stored, photometric="minisblack", planarconfig=planar, byteorder=order,
                     metadata=None, **options)  # fmt: skip
    source = open_source(file)
    wanted = np.hypot(whole.real.astype("f8"), whole.imag.astype("f8")).astype(
        "f4" if dtype == "c8" else "f8"
    )
    np.testing.assert_array_equal(full(source), wanted, strict=True)
    assert "complex samples are shown as their magnitudes" in source.info.warnings


@pytest.mark.parametrize(("bits", "dtype"), [(16, "f4"), (32, "f4"), (64, "f8")])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("compression", [1, 8])
def test_complex_integers_are_their_magnitudes(bits: int, dtype: str, order: str, compression: int) -> None:
    limits = np.iinfo(f"i{bits // 16}")
    halves = RNG.integers(limits.min, limits.max, (9, 7, 2), endpoint=True)
    halves[0, 0] = limits.min, limits.min
    data = halves.astype(f"{order}i{bits // 16}").tobytes()
    tags = {258: (3, bits), 259: (3, compression), 339: (3, 5), 42113: (2, "0")}
    source = open_source(
        tiff(page(7, 9, [data if compression == 1 else zlib.compress(data)], tags), order=order)
    )
    wanted = np.hypot(halves[..., 0].astype(dtype), halves[..., 1].astype(dtype))
    np.testing.assert_array_equal(full(source)[..., 0], wanted, strict=True)
    assert source.info.nodata is None
    assert "nodata of complex samples is ignored" in source.info.warnings


@pytest.mark.parametrize(("tags", "reason"), [
    ({258: (3, 64), 339: (3, 6), 317: (3, 2), 259: (3, 8)}, "predictor 2 with complex"),
    ({258: (3, 64), 339: (3, 6), 317: (3, 3), 259: (3, 8)}, "predictor 3 with complex"),
    ({258: (3, 64), 339: (3, 6), 259: (3, 34887)}, "complex samples in compression 34887"),
    ({258: (3, 32), 339: (3, 6)}, "32-bit complex samples"),
    ({258: (3, 128), 339: (3, 5)}, "128-bit complex integer samples"),
    ({258: (3, 8), 339: (3, 7)}, "format 7 samples"),
])  # fmt: skip
def test_complex_samples_of_other_forms_are_refused(tags: Tags, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        open_source(tiff(page(7, 9, [bytes(2000)], tags)))
