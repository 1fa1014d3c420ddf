"""The sections by name: what a full run measures beside the contests."""

from __future__ import annotations

from benchmarks import curves, girder, http_load, memory, start
from benchmarks.section import Section

SECTIONS: dict[str, Section] = {
    "http": http_load.SECTION,
    "girder": girder.SECTION,
    "start": start.SECTION,
    "memory": memory.SECTION,
    "curves": curves.SECTION,
}
