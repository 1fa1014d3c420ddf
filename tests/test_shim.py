"""The shim that runs kernels with barriers on the processor: what it must notice, it notices."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.standin import SHIM

KERNELS = """
struct Job { unsigned* out; };
#define KERNEL(name, ...) extern "C" void name(const Job* job) { \\
  __shared__ unsigned shared[64]; unsigned* out = job->out; const unsigned me = threadIdx.x; __VA_ARGS__ }

KERNEL(turned, shared[me] = me;
  __syncthreads(); out[me] = shared[blockDim.x - 1 - me];)

KERNEL(raced, shared[me] = me;
  out[me] = shared[blockDim.x - 1 - me];
  __syncthreads();)

KERNEL(summed, for (unsigned step = 1; step < blockDim.x; step *= 2) {
    out[me] += step; __syncthreads(); })

KERNEL(left, if (me > 4) return; __syncthreads();)

extern "C" void parted(const Job*) {
  if (threadIdx.x % 2)
    __syncthreads();
  else
    __syncthreads();
}

SHIM_EXPORT(turned, Job)
SHIM_EXPORT(raced, Job)
SHIM_EXPORT(summed, Job)
SHIM_EXPORT(left, Job)
SHIM_EXPORT(parted, Job)
"""
THREADS = 64
ORDERS = (1, -1, 2, 3)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    target = tmp_path_factory.mktemp("shim") / "kernels.so"
    command = ["g++", "-std=c++17", "-O1", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-x", "c++", "-"]
    source = f'#include "{Path(SHIM)}"\n{KERNELS}'
    subprocess.run([*command, "-o", str(target)], input=source.encode(), check=True)
    return ctypes.CDLL(str(target))


def run(library: Any, name: str, order: int) -> tuple[int, list[int]]:
    """Return what a launch of one block says, and the block's output."""
    out = np.zeros(THREADS, np.uint32)
    job = (ctypes.c_void_p * 1)(out.ctypes.data)
    return getattr(library, f"run_{name}")(job, 1, 1, THREADS, 1, order), out.tolist()


@pytest.mark.parametrize("order", ORDERS)
def test_a_right_kernel_gives_the_same_in_every_order(library: Any, order: int) -> None:
    assert run(library, "turned", order) == (0, list(reversed(range(THREADS))))
    assert run(library, "summed", order) == (0, [THREADS - 1] * THREADS)


def test_a_race_gives_another_answer_in_another_order(library: Any) -> None:
    answers = [run(library, "raced", order) for order in ORDERS]
    assert {status for status, _ in answers} == {0}
    assert len({tuple(out) for _, out in answers}) > 1


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["left", "parted"])
def test_threads_that_do_not_meet_fail(library: Any, name: str, order: int) -> None:
    assert run(library, name, order)[0] == 1
    assert run(library, "turned", order)[0] == 0  # and do no harm to what comes next
