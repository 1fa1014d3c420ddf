"""Make docs/style.png, the picture in README: a small demo sample in the style of docs/style.json."""

from __future__ import annotations

import tempfile
from pathlib import Path

import gputiles
from gputiles.sample import write_sample

HERE = Path(__file__).resolve().parent
SIZE = 720  # level 0 is then 360 × 360


def main() -> None:
    """Write the sample to a temporary folder and render its level 0."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.ome.tif"
        write_sample(path, SIZE)
        with gputiles.open(path) as image:
            style = (HERE / "style.json").read_text(encoding="utf-8")
            (HERE / "style.png").write_bytes(image.tile(0, 0, 0, style=style, edge=True))


if __name__ == "__main__":
    main()
