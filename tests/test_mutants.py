"""The kernels are honest: a changed operator shows, and every instruction set gives the same bits."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gputiles.backends import DownsampleJob, Raster, RenderJob
from gputiles.backends.host import HostBackend, Library
from gputiles.backends.paste import raster_of
from gputiles.encoded import Encoding, Format
from gputiles.image import Reduction
from gputiles.recipe import BandRecipe, Blend, Recipe
from tests import spec
from tests.test_kernels import KERNELS

FLAGS = (
    "-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-trapping-math",
    "-fno-math-errno", "-fno-signed-zeros", "-ffinite-math-only", "-DGPUTILES_ONE_LEVEL",
)  # fmt: skip

MUTANTS = [
    ("return (float)value - low;", "return (float)value + low;"),
    ("smaller(larger(n, low), high)", "larger(larger(n, low), high)"),
    ("n < 0.0f || n > 1.0f", "n < 0.0f || n >= 1.0f"),
    ("return larger(old, counts ? colour : 0.0f);", "return smaller(old, counts ? colour : 0.0f);"),
    ("return old + (counts ? colour : 0.0f);", "return old - (counts ? colour : 0.0f);"),
    ("return (total + 1 + ((total >> 2) & 1)) >> 2;", "return (total + 2) >> 2;"),
    ("p[i] + (t - (float)i)", "p[i] - (t - (float)i)"),
]


def build(source: Path, target: Path, *options: str) -> HostBackend:
    compiler = shutil.which("g++")
    assert compiler is not None, "the package itself was built with g++"
    subprocess.run([compiler, *FLAGS, *options, str(source / "host.cpp"), "-o", str(target)], check=True)
    return HostBackend(1, Library(str(target)))


def planes() -> Iterator[Raster]:
    rng = np.random.default_rng(6)
    for _ in range(3):
        yield raster_of(rng.integers(0, 1200, (16, 1100, 1)).astype(np.uint16))


def render_job() -> RenderJob:
    ramp, three = [[0, 0, 0, 255], [255, 90, 0, 255]], [[9, 0, 3, 255], [200, 255, 7, 255], [1, 2, 250, 255]]
    bands = (
        BandRecipe(0, 0, 100, 1100, np.array(ramp, np.float32)),
        BandRecipe(1, 0, 0, 1000, np.array(three, np.float32), clamp=False),
        BandRecipe(2, 0, 50, 900, np.array(ramp, np.float32), blend=Blend.ADDITIVE),
    )
    return RenderJob(Recipe((0, 1, 2), bands), tuple(planes()), 1100, 16, Encoding(Format.PNG))


def agrees(backend: HostBackend) -> bool:
    """Say whether a library gives the specification's pixels."""
    job = render_job()
    sources = [(raster.pixels, raster.valid) for raster in job.rasters]
    if not np.array_equal(backend.composite(job), spec.composite(job.recipe, sources, 1100, 16)):
        return False
    child = next(planes())
    half = DownsampleJob((child, None, None, None), (1100, 16), 550, 8, Reduction.MEAN)
    (made,) = backend.downsample([half])
    assert isinstance(made, Raster)
    expected, _ = spec.downsample([(child.pixels, None), None, None, None], (1100, 16), 550, 8)
    return np.array_equal(made.pixels, expected)


@pytest.mark.parametrize(("operator", "changed"), MUTANTS, ids=[old for old, _ in MUTANTS])
def test_a_changed_operator_is_noticed(tmp_path: Path, operator: str, changed: str) -> None:
    kernels = tmp_path / "kernels"
    shutil.copytree(KERNELS, kernels, ignore=shutil.ignore_patterns("__pycache__"))
    text = (kernels / "pixel.h").read_text()
    assert operator in text
    (kernels / "pixel.h").write_text(text.replace(operator, changed))
    assert not agrees(build(kernels, tmp_path / "mutant.so", "-O0"))


@pytest.mark.parametrize("level", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_every_instruction_set_gives_the_same_bits(tmp_path: Path, level: str) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("these are levels of x86-64")
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    needs = {"x86-64": "sse2", "x86-64-v3": "avx2", "x86-64-v4": "avx512vl"}[level]
    if needs not in flags:
        pytest.skip(f"this processor has no {needs}")
    assert agrees(build(KERNELS, tmp_path / "level.so", "-O3", f"-march={level}"))
