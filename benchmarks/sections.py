"""The sections by name: what a full run measures beside the contests."""

from __future__ import annotations

from benchmarks import (
    constant,
    dragging,
    girder,
    http_load,
    iip,
    memory,
    openloop,
    roofline,
    scaling,
    start,
    viewing,
)
from benchmarks.section import Section

SECTIONS: dict[str, Section] = {
    "http": http_load.SECTION,
    "constant": constant.SECTION,
    "girder": girder.SECTION,
    "open": openloop.SECTION,
    "traces": viewing.SECTION,
    "drag": dragging.SECTION,
    "start": start.SECTION,
    "memory": memory.SECTION,
    "iip": iip.SECTION,
    "scaling": scaling.SECTION,
    "roofline": roofline.SECTION,
}
