"""large_image's own answers, for the whole way from the file to the PNG."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import gputiles
from tests.conftest import SHARED, shared

GOLDEN = SHARED / "reference" / "golden.json"
CASES: dict[str, Any] = json.loads(GOLDEN.read_text())["cases"] if GOLDEN.exists() else {"absent": {}}


@pytest.mark.parametrize("name", CASES)
def test_a_style_gives_the_bytes_that_large_image_gives(name: str) -> None:
    golden = json.loads(shared("reference", "golden.json").read_text())
    case = golden["cases"][name]
    with gputiles.open(shared("reference", "golden.ome.tif")) as image:
        png = image.tile(image.info.levels - 1, 0, 0, style=case["style"] or {}, encoding="PNG")
    pixels = np.asarray(Pillow.open(BytesIO(png))).reshape(*case["shape"])
    assert pixels[golden["row"], golden["columns"]].tolist() == case["values"]
    assert int(pixels.sum(dtype=np.int64)) == case["checksum"]
