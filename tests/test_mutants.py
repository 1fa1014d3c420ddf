"""The kernels are honest: a changed operator shows, and every instruction set gives the same bits."""

from __future__ import annotations

import multiprocessing
import platform
import shutil
import subprocess
import sys
import zlib
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gputiles.backends import (
    DownsampleJob,
    MeasureJob,
    Measurement,
    Raster,
    RenderJob,
    ResampleJob,
    tables,
)
from gputiles.backends.host import HostBackend
from gputiles.backends.hostlib import Library
from gputiles.backends.jpegs import Jpegs
from gputiles.backends.paste import decode_chunk, raster_of
from gputiles.encoded import Encoding, Format
from gputiles.geometry import Rect
from gputiles.image import Reduction
from gputiles.recipe import BandRecipe, Blend, Conversion, ConversionKind, Finish, Recipe
from tests import spec, spec_dense, spec_icc, spec_jpeg
from tests.test_dense import DENSE, SPARSE, block, rows_like
from tests.test_icc import CONVERSIONS, shown
from tests.test_jpeg import encoded, picture
from tests.test_jpegdecode import Watched, blank, chunk, encode, fresh
from tests.test_jpegdecode import picture as drawn
from tests.test_kernels import KERNELS, band, bright_recipe, raster

FLAGS = (
    "-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-trapping-math",
    "-fno-math-errno", "-fno-signed-zeros", "-ffinite-math-only", "-DGPUTILES_ONE_LEVEL",
)  # fmt: skip

MUTATED = ("composite", "dense", "downsample", "icc", "jpeg", "png")  # beside the headers

MUTANTS = [
    # composite
    ("return (float)value - low;", "return (float)value + low;"),
    ("above(u32 value, float, double low) { return (float)((double)value - low); }",
     "above(u32 value, float low, double) { return (float)value - low; }"),
    ("above(double value, float, double low) { return (float)(value - low); }",
     "above(double value, float low, double) { return (float)value - low; }"),
    ("smaller(larger(n, low), high)", "larger(larger(n, low), high)"),
    ("smaller(larger(n, low), high)", "larger(n, low)"),
    ("n < 0.0f || n > 1.0f", "n < 0.0f || n >= 1.0f"),
    ("n < 0.0f || n > 1.0f", "n <= 0.0f || n > 1.0f"),
    ("n * (float)(stops - 1);", "n * (float)stops;"),
    ("smaller((int)t, stops - 2)", "smaller((int)t, stops - 3)"),
    ("p[i] + (t - (float)i)", "p[i] - (t - (float)i)"),
    ("smaller((int)(n * (float)stops), stops - 1)", "(int)(n * (float)(stops - 1))"),
    ("return larger(old, counts ? colour : 0.0f);", "return smaller(old, counts ? colour : 0.0f);"),
    ("return larger(old, counts ? colour : 0.0f);", "return larger(old, colour);"),
    ("return old + (counts ? colour : 0.0f);", "return old - (counts ? colour : 0.0f);"),
    ("(old + light) - (old * light)", "(old + light) + (old * light)"),
    ("colour / 255.0f : 1.0f)", "colour / 255.0f : 0.0f)"),
    ("c * 65535.0f / 255.0f", "c * 65536.0f / 255.0f"),
    ("return (int)(c / 255.0f);", "return (int)(c / 255.0f + 0.5f);"),
    ("return (int)c;", "return (int)(c + 0.5f);"),
    ("if (Join::is_most && !masked) at.least[c]", "if (Join::is_most) at.least[c]"),
    ("if (blend != LIGHTEN) at.least[c] = -1.0f;", ""),
    ("if (!band.clamp || source.has_nodata || source.valid) return false;", ""),
    ("!band.clamp || source.has_nodata || source.valid)", "!band.clamp || source.has_nodata)"),
    ("!band.clamp || source.has_nodata || source.valid)", "!band.clamp || source.valid)"),
    ("if (band.blend != LIGHTEN && (", "if (false && ("),
    ("(band.blend != ADDITIVE || band.kind[3] == RAMP)", "band.blend != ADDITIVE"),
    ("if (band.kind[c] == LINEAR || band.kind[c] == STEP) return false;", ""),
    ("if (band.kind[c] != RAMP) join_as_blended", "if (band.kind[c] == STEP) join_as_blended"),
    ("Join::join(out[c][i], n * end[c], true)", "Join::join(out[c][i], n * end[0], true)"),
    ("band.source.samples != 1 || (!bytes", "(!bytes"),
    ("span.row * band.source.columns + span.from;", "span.from;"),
    ("weave.own[at % 3][at] = 255", "weave.own[at % 3][at] = 254"),
    ("(u8)over(bytes[c][i], bytes[3][i],", "(u8)over(bytes[c][i], bytes[2][i],"),
    ("under * (255 - alpha) + 127", "under * (255 - alpha) + 128"),
    ("& 0x7fffffffu) > 0x7f800000u", "& 0x7fffffffu) >= 0x7f800000u"),
    # unstyled
    ("to_byte(u16 v) { return v >> 8; }", "to_byte(u16 v) { return v >> 7; }"),
    ("to_byte(i8 v) { return v + 128; }", "to_byte(i8 v) { return v + 127; }"),
    ("(int)between(v, 0.0f, 255.0f)", "(int)between(v, 0.0f, 254.0f)"),
    ("v < (T)0 ? 0 : v > (T)(entries - 1)", "v < (T)0 ? 0 : v > (T)entries"),
    # means
    ("if (rest < 0) rest += count, quotient -= 1;", "if (rest < 0) rest += count;"),
    ("(2 * rest == count && (quotient & 1))", "2 * rest == count"),
    ("((a + b) + (c + d)) / (float)count", "(((a + b) + c) + d) / (float)count"),
    ("if (r < 0) r += count, q -= 1;", "if (r < 0) r += count;"),
    ("(2 * rests == count && (quotient & 1))", "2 * rests == count"),
    ("return (S)((S)(total + 1 + ((total >> 2) & 1)) >> 2);", "return (S)((S)(total + 2) >> 2);"),
    ("if (rest > 0.5 || (rest == 0.5 && (whole & 1)))", "if (rest >= 0.5)"),
    ("(pairs & 255) + (pairs >> 8)", "pairs + (pairs >> 8)"),
    ("i + 4 < count; i += 4", "i + 4 < count; i += 5"),
    ("quarter_pixels(clean, samples, out, 0, 1);", ""),
    ("quarter_pixels(clean, samples, out, to, count);", ""),
    # measures
    ("if (value < edges[bin]) bin -= 1;", ""),
    ("if (value >= edges[bin + 1] && bin != bins - 1) bin += 1;", ""),
    ("& 0x7f800000u) != 0x7f800000u", "& 0x7f800000u) == 0x7f800000u"),
    # PNG
    ("(a <= b) & (a <= c) ? left", "(a <= b) & (a < c) ? left"),
    ("b <= c ? above : corner", "b < c ? above : corner"),
    ("(i16)(2 * corner)", "corner"),
    ("smaller(byte, (u8)-byte)", "byte"),
    ("begin + PART <= bytes; begin += 2 * PART", "begin + PART < bytes; begin += 2 * PART"),
    ("begin + PART <= bytes; begin += 2 * PART", "begin + PART <= bytes; begin += PART"),
    ("above && bytes >= LONG_ROW", "above && bytes > LONG_ROW"),
    # dense rows
    ("sampled.flat * GROUP / LONGEST_MATCH;", "sampled.flat;"),
    ("next[length - 1] + next[length]) << 1", "next[length - 1] + next[length])"),
    ("put_match(entries, (int)smaller(left, (i64)LONGEST_MATCH), bits)", "put_match(entries, 258, bits)"),
    ("put_literals(entries, bytes, (int)left, bits);", ""),
    ("code_in(c) | code_in(d) << bits_in(c)", "code_in(d) | code_in(c) << bits_in(c)"),
    ("count &= 7;\n  }\n  INLINE", "count &= 3;\n  }\n  INLINE"),
    ("2 * bits >= 3 *", "2 * bits >= 2 *"),
    ("3 * sampled.repeated < sampled", "2 * sampled.repeated < sampled"),
    ("at += SAMPLED", "at += 2 * SAMPLED"),
    ("adler_of((const u8*)job.filtered, job.count)", "adler_of((const u8*)job.filtered, job.count - 1)"),
    ("length <= job.count + job.count / 64", "length <= job.count"),
    # JPEG
    ("7471 * b + 32768) >> 16)", "7471 * b + 32767) >> 16)"),
    ("32768 * b + 32767", "32768 * b + 32768"),
    ("5329 * b + 32767", "5329 * b"),
    ("(1 << (bits - 1))) >> bits", "(1 << bits)) >> bits"),
    ("return rounded<2>(value);", "return value >> 2;"),
    ("turn - inner_less * 15137", "turn - inner_less * 15136"),
    ("(odd4 + odd7) * -7373", "(odd4 - odd7) * -7373"),
    ("odd6 * 25172 + middles + evens", "odd6 * 25172 + middles - evens"),
    ("high((u16)(size + half), reciprocal)", "high((u16)size, reciprocal)"),
    ("(i16)((level ^ sign) - sign)", "level"),
    (">> 23) - 126", ">> 23) - 127"),
    ("value + (value >> 31)", "value"),
    ("smaller((u16)(gaps[b] + 1), FAR)", "(u16)(gaps[b] + 1)"),
    ("gaps[b] = value ? 0 : gap;", "gaps[b] = value ? 0 : 1;"),
    ("if (most >= FAR << AC_BITS)", "if (most > (FAR << AC_BITS | LOW))"),
    ("first_count + second_count <= 64 - 8", "first_count + second_count <= 64"),
    ("if (!marks[COEFS - 1])", "if (marks[COEFS - 1])"),
    # ICC
    ("(T)(between(level, 0.0f, job.top) + 0.5f)", "(T)between(level, 0.0f, job.top)"),
    ("(T)(between(level, 0.0f, job.top) + 0.5f)", "(T)(between(level, 0.0f, 255.0f) + 0.5f)"),
    ("if (stored == nodata) return stored;", ""),
    ("made != nodata ? made :", "true ? made :"),
    ("made < (T)job.top ? made + 1", "made < (T)0 ? made + 1"),
    ("made < (T)job.top ? made + 1 : made - 1", "made + 1"),
    ("smaller((int)value, job.entries - 1)", "smaller((int)value, job.entries - 2)"),
    ("smaller((int)value, job.entries - 1)", "(int)value % job.entries"),
    ("((job.offset[c] + m[0] * red)", "((m[0] * red)"),
    ("((job.offset[c] + m[0] * red) + m[1] * green) + m[2] * blue",
     "((job.offset[c] + m[2] * blue) + m[1] * green) + m[0] * red"),
    ("between(light, 0.0f, 1.0f)", "between(light, 0.0f, 0.99f)"),
    ("between(light, 0.0f, 1.0f)", "smaller(light, 1.0f)"),
    ("smaller((float)value, job.top) * (float)(job.stops - 1)",
     "smaller((float)value, job.top) * (float)job.stops"),
    ("smaller((float)value, job.top) *", "(float)value *"),
    ("a.beyond < b.beyond", "a.beyond > b.beyond"),
    ("farther_first(a, b);\n  for", "for"),
    ("b.beyond * (second - first)", "b.beyond * (second - p[0])"),
    ("p[a.step + b.step + c.step]", "p[a.step + b.step]"),
    ("for (int s = colours; s < job.samples; ++s) out[s] = v[s];", ""),
    ("3 * job.stops * job.stops)", "3 * job.stops)"),
    # vectors
    ("permute2x128_si256(thirds[2], thirds[0], 0x30)", "permute2x128_si256(thirds[2], thirds[0], 0x20)"),
    ("setr_epi32(0, 4, 1, 5,", "setr_epi32(0, 1, 4, 5,"),
    ("smaller(place, limit) : between(place, 0.0f, limit)", "smaller(place, limit) : smaller(place, limit)"),
    ("factors(19595, 19235)", "factors(19595, 19234)"),
    ("factors(0, -32768)", "factors(0, 32767)"),
    ("32768 - (128 << 16)", "32767 - (128 << 16)"),
    ("round_less = _mm256_set1_epi32(32767)", "round_less = _mm256_set1_epi32(32768)"),
    ("last_rg = _mm256_setr_epi8(RED_GREEN(0), RED_GREEN(4))",
     "last_rg = _mm256_setr_epi8(RED_GREEN(0), RED_GREEN(0))"),
    ("_mm256_add_epi16(values, _mm256_set1_epi16(2))", "values"),
    ("sums + (1 << (Pass::bits - 1))", "sums"),
    ("products(even, 4433, -10704)", "products(even, 4433, -10703)"),
    ("products(inner, -2259, -11362)", "products(inner, -2258, -11362)"),
    ("_mm256_add_epi16(_mm256_abs_epi16(value), more)", "_mm256_abs_epi16(value)"),
    ("_mm256_mulhi_epu16(_mm256_mulhi_epu16(size, by), then), value)",
     "_mm256_mulhi_epu16(_mm256_mulhi_epu16(size, by), then), more)"),
    # JPEG chunks
    ("products(x26, 10703, 4433)", "products(x26, 10703, 4432)"),
    ("products(x13, 9633, -2259)", "products(x13, 9633, 2259)"),
    ("half = 1 << (bits - 1);\n  Pairs", "half = 1 << bits;\n  Pairs"),
    ("_mm256_adds_epi16(columns[i], _mm256_set1_epi16(128))", "columns[i]"),
    ("_mm256_set1_epi16(limit)", "_mm256_set1_epi16(0)"),
    ("_mm256_set1_epi16(13173)", "_mm256_set1_epi16(13180)"),
    ("products(pairs_of(b, r), -11277, 9367) + (1 << 14)", "products(pairs_of(b, r), -11277, 9367)"),
    ("if (found) from += 2, ++to;", "if (found) from += 2;"),
]  # fmt: skip
AGREES, DIFFERS = 0, 3  # how a process ends that has judged a library; below 0 where a signal ended it
PATIENCE = 120  # seconds
VECTORS = ("vectors.h", "jpegvectors.h")  # compiled for AVX2


def build(source: Path, target: Path, *options: str) -> str:
    """Compile the kernels of a folder, and return the path of the library."""
    compiler = shutil.which("g++")
    assert compiler is not None, "the package itself was built with g++"
    subprocess.run([compiler, *FLAGS, *options, str(source / "host.cpp"), "-o", str(target)], check=True)
    return str(target)


def judge(library: str) -> None:
    """End the process with what is found of a library."""
    sys.exit(AGREES if agrees(HostBackend(1, Library(library))) else DIFFERS)


def judged(library: str) -> int:
    """Return what another process finds of a library.

    What is changed may read and write anywhere, which this process would die of, or never end.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    process = processes.Process(target=judge, args=(library,))
    process.start()
    process.join(PATIENCE)
    found = process.exitcode
    process.kill()
    assert found is not None, "it does not end"
    return found


def composites_agree(backend: HostBackend, dtype: np.dtype[Any]) -> bool:
    """Compare random styles, with and without alpha."""
    rng = np.random.default_rng(int(tables.TYPES[dtype]))
    for number in range(16):
        rasters = tuple(raster(rng, dtype, (2, 70, 2), masked=number % 3 == 0) for _ in range(3))
        bands = tuple(band(rng, dtype, frame, 2) for frame in range(3))
        recipe = Recipe((0, 1, 2), bands, finish=Finish(number % 3 if number > 7 else 0))
        expected = spec.composite(recipe, [(each.pixels, each.valid) for each in rasters], 70, 2)
        whole = backend.composite(RenderJob(recipe, rasters, 70, 2, Encoding(Format.PNG)))
        if not np.array_equal(whole, expected):
            return False
        under = (200, 100, 50)
        flat = backend.composite(RenderJob(recipe, rasters, 70, 2, Encoding(), background=under))
        if not np.array_equal(flat, spec.over(expected, under)):
            return False
    return True


def bright_bands_agree(backend: HostBackend, dtype: np.dtype[Any]) -> bool:
    """Compare bands of ramps and constants, some of which are masked or blended."""
    rng = np.random.default_rng(int(tables.TYPES[dtype]))
    for number in range(24):
        rasters = tuple(raster(rng, dtype, (2, 70, 1), masked=number % 6 == at) for at in range(3))
        recipe = bright_recipe(rng, dtype)
        expected = spec.composite(recipe, [(each.pixels, each.valid) for each in rasters], 70, 2)
        made = backend.composite(RenderJob(recipe, rasters, 70, 2, Encoding(Format.PNG)))
        if not np.array_equal(made, expected):
            return False
    return True


def windows_agree(backend: HostBackend, dtype: np.dtype[Any]) -> bool:
    """Compare values at both ends of a window and between: every n that matters."""
    pixels = raster_of(np.arange(100).reshape(1, 100, 1).astype(dtype))
    stops = np.linspace(1, 254, 7).repeat(4).reshape(7, 4).astype(np.float32)
    ramp = np.array([[0] * 4, [255] * 4], np.float32)
    for palette, discrete in ((stops, False), (stops, True), (ramp, False)):
        for clamp, blend in product((True, False), (Blend.LIGHTEN, Blend.ADDITIVE, Blend.SCREEN)):
            one = BandRecipe(0, 0, 10, 90, palette, discrete, blend, clamp=clamp)
            recipe = Recipe((0,), (one, one))
            made = backend.composite(RenderJob(recipe, (pixels,), 100, 1, Encoding(Format.PNG)))
            if not np.array_equal(made, spec.composite(recipe, [(pixels.pixels, None)], 100, 1)):
                return False
    return True


def constants_agree(backend: HostBackend, dtype: np.dtype[Any]) -> bool:
    """Compare bands of one colour each, some of which change nothing; the first one is masked or not."""
    pixels = raster_of(np.arange(100).reshape(1, 100, 1).astype(dtype))
    blends = product((Blend.LIGHTEN, Blend.MULTIPLY, Blend.ADDITIVE), repeat=3)
    for order, clamp in product(blends, (True, False)):
        bands = tuple(
            BandRecipe(0, 0, 10, 90, np.full((1, 4), value, np.float32), blend=blend, clamp=clamp or at > 0)
            for at, (value, blend) in enumerate(zip((200, 90, 150), order, strict=True))
        )
        recipe = Recipe((0,), bands)
        made = backend.composite(RenderJob(recipe, (pixels,), 100, 1, Encoding(Format.PNG)))
        if not np.array_equal(made, spec.composite(recipe, [(pixels.pixels, None)], 100, 1)):
            return False
    return True


def wide_values_agree(backend: HostBackend, dtype: np.dtype[Any]) -> bool:
    """Compare large values a little apart, which float32 cannot tell from one another."""
    if dtype.kind == "i" or dtype.itemsize < 4 or dtype == np.float32:
        return True
    pixels = raster_of((np.arange(100).reshape(1, 100, 1) + 3_000_000_000).astype(dtype))
    ramp = np.array([[0] * 4, [255] * 4], np.float32)
    recipe = Recipe((0,), (BandRecipe(0, 0, 3e9, 3e9 + 100, ramp),))
    made = backend.composite(RenderJob(recipe, (pixels,), 100, 1, Encoding(Format.PNG)))
    return np.array_equal(made, spec.composite(recipe, [(pixels.pixels, None)], 100, 1))


def unstyled_agrees(backend: HostBackend, dtype: np.dtype[Any]) -> bool:
    rng = np.random.default_rng(3)
    source = raster(rng, dtype, (2, 300, 1), masked=False)
    small = raster_of((np.arange(600).reshape(2, 300, 1) % 60).astype(dtype))
    colormap = rng.integers(0, 256, (50, 3)).astype(np.uint8)
    for recipe, each in ((Recipe((0,)), source), (Recipe((0,), colormap=colormap), small)):
        made = backend.composite(RenderJob(recipe, (each,), 300, 2, Encoding(Format.PNG)))
        if not np.array_equal(made, spec.composite(recipe, [(each.pixels, None)], 300, 2)):
            return False
    return True


def means_agree(backend: HostBackend, dtype: np.dtype[Any]) -> bool:
    for masked, size, samples in product((False, True), ((40, 21), (41, 3)), (1, 3, 4)):
        rng = np.random.default_rng(size[0])
        child = raster(rng, dtype, (size[1], size[0], samples), masked)
        plain = (child.pixels, child.valid)
        made_size = -(-size[0] // 2), -(-size[1] // 2)
        (made,) = backend.downsample(
            [DownsampleJob((child, None, None, None), size, *made_size, Reduction.MEAN)]
        )
        assert isinstance(made, Raster)
        if not same(made, spec.downsample([plain, None, None, None], size, *made_size)):
            return False
        region = Rect(0, 0, *size)
        (made,) = backend.resample([ResampleJob(((0, 0, child),), region, 10, 2, Reduction.MEAN)])
        assert isinstance(made, Raster)
        if not same(made, spec.resample([(0, 0, *plain)], region, 10, 2)):
            return False
    return halves_agree(backend, dtype)


def halves_agree(backend: HostBackend, dtype: np.dtype[Any]) -> bool:
    """Compare means of small numbers, many of them halfway between two."""
    small = raster_of(np.random.default_rng(2).integers(0, 6, (2, 40, 1)).astype(dtype))
    (made,) = backend.resample([ResampleJob(((0, 0, small),), Rect(0, 0, 40, 2), 20, 1, Reduction.MEAN)])
    assert isinstance(made, Raster)
    return same(made, spec.resample([(0, 0, small.pixels, None)], Rect(0, 0, 40, 2), 20, 1))


def same(made: Raster, expected: tuple[NDArray[Any], NDArray[Any] | None]) -> bool:
    pixels, valid = expected
    if (made.valid is None) != (valid is None):
        return False
    floats = pixels.dtype.kind == "f"
    return np.array_equal(made.pixels, pixels, equal_nan=floats) and (
        valid is None or np.array_equal(made.valid, valid)
    )


def measures_agree(backend: HostBackend, dtype: np.dtype[Any]) -> bool:
    source = raster(np.random.default_rng(8), dtype, (10, 30, 1), masked=False)
    tenths = raster_of((np.arange(300).reshape(10, 30, 1) * 0.1).astype(dtype))
    below = raster_of(np.nextafter(np.linspace(0, 20, 201), -1).reshape(3, 67, 1).astype(dtype))
    cases = [
        (source, (-100.0, 1000.0, 77)),
        (tenths, (0.0, 20.0, 200)),
        (tenths, (0.0, 0.9, 9)),
        (below, (0.0, 20.0, 200)),
    ]
    for each, edges in cases:
        (found,) = backend.measure([MeasureJob(each, 0, edges)])
        assert isinstance(found, Measurement)
        expected = spec.histogram(each.pixels[..., 0], None, None, edges)
        if found.histogram is None or not np.array_equal(found.histogram, expected):
            return False
    return True


def filters_agree(backend: HostBackend) -> bool:
    rng = np.random.default_rng(9)
    narrow, long = (40, 50, 3), (40, 512, 2)
    pictures = [(steps, narrow) for steps in (2, 4, 12, 250)] + [
        (4, long),
        (12, long),
        (12, (40, 383, 3)),
        (12, (40, 577, 2)),
    ]
    for steps, shape in pictures:
        pixels = rng.integers(0, steps, shape).cumsum(axis=0).cumsum(axis=1)
        pixels[:, 300:] *= rng.integers(1, 9, (shape[0], 1, 1))  # halves of long rows differ
        job = RenderJob(
            Recipe((0,)), (raster_of(pixels.astype(np.uint8)),), *shape[1::-1], Encoding(Format.PNG)
        )
        (file,) = backend.render([job])
        assert isinstance(file, bytes)
        length = int.from_bytes(file[33:37], "big")
        try:
            rows = zlib.decompress(file[41 : 41 + length])
        except zlib.error:  # what the rows were compressed by has changed
            return False
        if rows != spec.png_filter(pixels.astype(np.uint8)):
            return False
    return True


def scans_agree(backend: HostBackend) -> bool:
    rng = np.random.default_rng(10)
    for number, steps in enumerate((2, 12, 90, 250)):
        pixels = rng.integers(0, steps, (40, 50, 3)).cumsum(axis=0).astype(np.uint8)
        for quality in (60, 97):
            encoding = Encoding(Format.JPEG, quality, number % 3)
            (file,) = backend.render([RenderJob(Recipe((0,)), (raster_of(pixels),), 50, 40, encoding)])
            if file != spec_jpeg.encode(pixels, quality, number % 3):
                return False
    for kind, quality in (("mixed", 90), ("loud", 100)):  # most coefficients are not 0
        pixels = picture(kind, 16, 256, 3)
        if encoded(pixels, quality, 0, backend) != spec_jpeg.encode(pixels, quality, 0):
            return False
    return True


def conversions_agree(backend: HostBackend) -> bool:
    """Compare ICC conversions of each kind: values beyond white, colours beyond sRGB, values left out."""
    rng = np.random.default_rng(11)
    cube = np.stack(np.meshgrid(*[[0, 1, 3, 4, 128, 200, 254, 255]] * 3), axis=-1).reshape(2, 256, 3)
    noise = rng.integers(0, 256, (40, 256, 3))
    for made in (*(make(255) for make in CONVERSIONS.values()), with_an_offset()):
        colours = np.concatenate([cube, noise, noise[..., :1].repeat(3, axis=-1)])
        pixels = np.concatenate([colours, colours[..., :1]], axis=-1).astype(np.uint8)
        pixels = pixels[..., : 2 if made.kind is ConversionKind.CURVE else 4]
        for nodata in (None, 0.0, 100.0, 255.0):
            if not np.array_equal(
                shown(made, pixels, nodata, backend), spec_icc.convert(made, pixels, nodata)
            ):
                return False
    for make, top in product(CONVERSIONS.values(), (1023, 65535)):
        wide = rng.integers(0, min(top + 100, 65536), (20, 256, 3)).astype(np.uint16)
        if not np.array_equal(shown(make(top), wide, None, backend), spec_icc.convert(make(top), wide)):
            return False
    return True


def with_an_offset() -> Conversion:
    """Return a conversion whose black is not black: profiles of dark rooms have one."""
    made = CONVERSIONS["matrix"](255)
    return replace(made, offset=np.array([0.1, 0.02, 0.001], np.float32))


def blocks_agree(backend: HostBackend) -> bool:
    """Compare blocks of dense rows, and rows on either side of what is left to others."""
    rng = np.random.default_rng(12)
    kinds = [rows_like(kind, 90_000) for kind in (*DENSE, *SPARSE)]
    kinds += [rng.choice(range(steps), 40_000).astype(np.uint8).tobytes() for steps in (2, 3, 4)]
    periods = (2400, 3400, 4400)  # groups that come again, half of them or fewer
    kinds += [
        np.resize(rng.integers(0, 99, 16 * period), 256 * 256).astype(np.uint8).tobytes()
        for period in periods
    ]
    return all(
        block(data, last=last, backend=backend) == spec_dense.stream(data, last)
        for data in kinds
        for last in (False, True)
    )


def streams_agree(backend: HostBackend) -> bool:
    """Compare what the kernel makes of JPEG streams, of all of them, with what libjpeg-turbo does."""
    streams = [
        chunk(encode(drawn(kind, 40, 130, 3), quality, subsampling), 130, 40)
        for kind in ("noise", "waves", "saturated")
        for quality, subsampling in ((20, "444"), (95, "420"))
    ]
    watched = Watched(backend._run)
    made = list(Jpegs(watched, fresh, blank).decode(streams))  # type: ignore[arg-type]
    return watched.decoded == len(streams) and all(
        np.array_equal(pixels, decode_chunk(each)) for pixels, each in zip(made, streams, strict=True)
    )


CHECKS = (
    composites_agree, bright_bands_agree, windows_agree, constants_agree, wide_values_agree, unstyled_agrees,
    means_agree, measures_agree,
)  # fmt: skip


def processor_flags() -> str:
    """Return what the system says about the processor; nothing where it does not."""
    about = Path("/proc/cpuinfo")
    return about.read_text() if about.exists() else ""


def agrees(backend: HostBackend) -> bool:
    """Say whether a library gives the specification's bits, for every type of value."""
    return (
        filters_agree(backend)
        and conversions_agree(backend)
        and scans_agree(backend)
        and blocks_agree(backend)
        and streams_agree(backend)
        and all(check(backend, dtype) for check in CHECKS for dtype in map(np.dtype, tables.TYPES))
    )


@pytest.mark.parametrize(("operator", "changed"), MUTANTS, ids=[new or f"no {old}" for old, new in MUTANTS])
def test_a_changed_operator_is_noticed(tmp_path: Path, operator: str, changed: str) -> None:
    kernels = tmp_path / "kernels"
    shutil.copytree(KERNELS, kernels, ignore=shutil.ignore_patterns("__pycache__"))
    sources = [*kernels.glob("*.h"), *(kernels / f"{name}.cu" for name in MUTATED)]
    (header,) = [each for each in sources if operator in each.read_text()]
    header.write_text(header.read_text().replace(operator, changed))
    if header.name in VECTORS and "avx2" not in processor_flags():
        pytest.skip("this processor has no avx2")
    level = ("-mavx2",) if header.name in VECTORS else ()
    found = judged(build(kernels, tmp_path / "mutant.so", "-O0", "-w", *level))
    assert found == DIFFERS or found < 0


def test_the_installed_library_agrees() -> None:
    assert agrees(HostBackend(1))


def test_another_process_judges_as_this_one_does(tmp_path: Path) -> None:
    assert judged(build(KERNELS, tmp_path / "same.so", "-O0", "-w")) == AGREES


@pytest.mark.parametrize("level", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_every_instruction_set_gives_the_same_bits(tmp_path: Path, level: str) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("these are levels of x86-64")
    needs = {"x86-64": "sse2", "x86-64-v3": "avx2", "x86-64-v4": "avx512vl"}[level]
    if needs not in processor_flags():
        pytest.skip(f"this processor has no {needs}")
    library = build(KERNELS, tmp_path / "level.so", "-O3", f"-march={level}")
    assert agrees(HostBackend(1, Library(library)))
