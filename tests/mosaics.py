"""Slides whose tiles overlap, as their scanners took them: Trestle, Ventana BIF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.slidefiles import picture, saved
from tests.tiffs import Tags, page, tiff

SIDE, ACROSS, DOWN = 128, 4, 3
OVERLAP = 28, 16
SIZE = DOWN * (SIDE - OVERLAP[1]) + OVERLAP[1], ACROSS * (SIDE - OVERLAP[0]) + OVERLAP[0]
"""Rows and columns of the picture that the tiles make up together."""
_COLOURS: Tags = {258: (3, [8] * 3), 259: (3, 7), 262: (3, 6), 277: (3, 3), 530: (3, [1, 1])}
_TILED: Tags = {**_COLOURS, 322: (3, SIDE), 323: (3, SIDE)}

Pixels = NDArray[np.uint8]


def _tiles(pixels: Pixels) -> list[bytes]:
    steps = SIDE - OVERLAP[0], SIDE - OVERLAP[1]
    corners = [(x * steps[0], y * steps[1]) for y in range(DOWN) for x in range(ACROSS)]
    return [saved(pixels[top : top + SIDE, left : left + SIDE]) for left, top in corners]


def write_trestle(path: Path, pixels: Pixels) -> None:
    """Write a slide of one level, whose tiles overlap by the same numbers of pixels everywhere."""
    told = f"Background Color=255;Objective Power=20;OverlapsXY= {OVERLAP[0]} {OVERLAP[1]}"
    tags: Tags = {**_TILED, 270: (2, told), 305: (2, "MedScan")}
    path.write_bytes(tiff(page(ACROSS * SIDE, DOWN * SIDE, _tiles(pixels), tags)).read())


def write_bif(path: Path, pixels: Pixels) -> None:
    """Write a slide of one level whose tiles are joined by pairs, with the picture of its label before it."""
    scan = '<Metadata><iScan Magnification="20" ScanRes="0.5"><AOI0 AOIScanned="1"/></iScan></Metadata>'
    area = f'AOIScanned="1" AOIIndex="0" NumRows="{DOWN}" NumCols="{ACROSS}" Width="{SIDE}" Height="{SIDE}"'
    image = f'<ImageInfo {area} Pos-X="0" Pos-Y="0">{_joints()}</ImageInfo>'
    origin = '<AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin>'
    stitched = f'<EncodeInfo Ver="2"><SlideStitchInfo>{image}</SlideStitchInfo>{origin}</EncodeInfo>'
    label: Tags = {**_COLOURS, 270: (2, "Label_Image"), 700: (1, scan.encode())}
    level: Tags = {**_TILED, 270: (2, "level=0 mag=20 quality=95"), 700: (1, stitched.encode())}
    pages = (
        page(60, 90, [saved(picture(90, 60))], label),
        page(ACROSS * SIDE, DOWN * SIDE, _tiles(pixels), level),
    )
    path.write_bytes(tiff(*pages, big=True).read())


def _joints() -> str:
    """Return what joins each tile to the one on its right and to the one above it."""
    found = []
    for row in range(DOWN):
        for column in range(ACROSS):
            here = f'FlagJoined="1" Confidence="100" Tile1="{_number(column, row)}"'
            if column + 1 < ACROSS:
                right = f'Direction="RIGHT" Tile2="{_number(column + 1, row)}"'
                found.append(f'<TileJointInfo {here} {right} OverlapX="{OVERLAP[0]}" OverlapY="0"/>')
            if row:
                up = f'Direction="UP" Tile2="{_number(column, row - 1)}"'
                found.append(f'<TileJointInfo {here} {up} OverlapX="0" OverlapY="{OVERLAP[1]}"/>')
    return "".join(found)


def _number(column: int, row: int) -> int:
    """Return the number of a tile as the stage went: from the lowest row on, there and back again."""
    passed = DOWN - 1 - row
    return 1 + passed * ACROSS + (column if passed % 2 == 0 else ACROSS - 1 - column)
