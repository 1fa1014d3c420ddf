"""What is asked of gputiles and of a real Girder alike: one line a request, good and bad.

A line is ``[METHOD] file path?query``: the file is a word of FILES (or ``-`` for a path that stands
by itself), the path is below the file's item, and ``$word`` in a query is a style of STYLES. The
method MATCH is a GET with ``If-None-Match: *``.
"""

from __future__ import annotations

import json
from urllib.parse import quote

FILES = {
    "slide": "data/libvips__CMU-1-Small-Region.svs",  # 8-bit colour, JPEG tiles, one level
    "page": "cases/svs_page_order.svs",  # 8-bit colour, a level in between
    "golden": "reference/golden.ome.tif",  # 16 bits, 3 frames
    "panel": "cases/ome_40ch_subifd.ome.tif",  # 16 bits, 40 frames, a pyramid
    "odd": "cases/ome_subifd_odd_floor.ome.tif",  # 16 bits, a pyramid of odd sizes
    "quad": "data/libtiff__quad-tile.jpg.tiff",  # 8-bit colour, no pyramid
    "tall": "cases/tiles_240x512.tif",  # tiles that are not square
    "signed": "data/image-tiff__tiled-oversize-gray-i8.tif",
    "small": "cases/ome_3ch_u8_not_rgb.ome.tif",  # 8 bits, 3 frames, tiles of 64
    "alpha": "cases/rgba_unassociated.tif",
}

STYLES = {
    "none": {},
    "auto": {"min": "auto", "max": "auto"},
    "window": {"min": 200, "max": 4000},
    "byte": {"min": 20, "max": 200},
    "red": {"min": 0, "max": 4000, "palette": "#f00"},
    "list": {"min": 0, "max": 4000, "palette": ["#000", "#0f0", "#fff"]},
    "steps": {"min": 0, "max": 4000, "palette": ["#000", "#0f0", "#fff"], "scheme": "discrete"},
    "viridis": {"min": 0, "max": 4000, "palette": "matplotlib.Viridis_6"},
    "percent": {"min": "min:0.02", "max": "max:0.02", "palette": "#0ff"},
    "full": {"min": 0, "max": "full"},
    "three": {
        "bands": [
            {"frame": 0, "min": 0, "max": 3000, "palette": "#f00"},
            {"frame": 1, "min": 0, "max": 3000, "palette": "#0f0"},
            {"frame": 2, "min": 0, "max": 3000, "palette": "#00f"},
        ]
    },
    "delta": {
        "bands": [
            {"framedelta": 0, "min": 0, "max": 3000, "palette": "#f0f"},
            {"framedelta": 1, "min": 0, "max": 3000, "palette": "#ff0"},
        ]
    },
    "rgb": {"bands": [{"band": n, "min": 20, "max": 230, "palette": c} for n, c in
                      ((1, "#f00"), (2, "#0f0"), (3, "#00f"))]},
    "names": {"bands": [{"band": "red", "palette": "#0f0"}, {"band": "blue", "palette": "#f00"}]},
    "second": {"band": 2, "min": 0, "max": 255},
    "clipped": {"min": 1000, "max": 3000, "clamp": False, "palette": "#ff0"},
    "nodata": {"min": 0, "max": 4000, "nodata": 0, "palette": "#ff0"},
    "multiply": {
        "bands": [
            {"frame": 0, "min": 0, "max": 4000, "palette": "#fff"},
            {"frame": 1, "min": 0, "max": 4000, "palette": ["#fff", "#000"], "composite": "multiply"},
        ]
    },
    "noicc": {"icc": False},
    "palette?": {"min": 0, "max": 9, "palette": "no such palette"},
    "min?": {"min": None, "max": 255},
    "word?": {"min": "lowest", "max": 255},
    "frame?": {"bands": [{"frame": 99, "min": 0, "max": 1, "palette": "#f00"}]},
    "bands?": {"bands": 5},
    "array?": [1, 2],
}  # fmt: skip

LINES = """
slide tiles
page tiles
golden tiles
panel tiles
odd tiles
quad tiles
tall tiles
signed tiles
small tiles
alpha tiles
HEAD slide tiles
POST slide tiles/zxy/0/0/0
PUT slide tiles/region
DELETE slide tiles/region
POST slide tiles/histogram
- item/000000000000000000000000/tiles
- item/ffffffffffffffffffffffff/tiles/zxy/0/0/0
- item/ffffffffffffffffffffffff/tiles/region
- item/ffffffffffffffffffffffff/tiles/pixel?left=1&top=1
- item/nonsense/tiles
- item/nonsense/tiles/zxy/0/0/0
- item/12345/tiles/thumbnail
- item/nonsense/tiles/images
- nothing/at/all
slide tiles/nothing
slide tiles/zxy/0/0
slide tiles/zxy/4/2/3
slide tiles/zxy/4/2/3?encoding=PNG
slide tiles/zxy/4/2/3?encoding=PNG&_=1700000000
slide tiles/zxy/4/9/12?encoding=PNG&edge=crop
slide tiles/zxy/4/9/12?encoding=PNG&edge=%23ff0000
slide tiles/zxy/4/9/12?encoding=PNG&edge=white
slide tiles/zxy/4/9/12?encoding=PNG
slide tiles/zxy/4/3/3?encoding=JPEG&jpegQuality=50
slide tiles/zxy/4/3/3?encoding=JPEG&jpegQuality=90&jpegSubsampling=2
slide tiles/zxy/4/3/3?encoding=PNG&style=$rgb
slide tiles/zxy/4/3/3?encoding=PNG&style=$names
slide tiles/zxy/4/3/3?encoding=PNG&style=$second
slide tiles/zxy/4/3/3?encoding=PNG&style=$noicc
slide tiles/zxy/4/3/3?encoding=PNG&style=$byte
slide tiles/zxy/3/1/1?encoding=PNG
slide tiles/zxy/0/0/0?encoding=PNG
HEAD slide tiles/zxy/4/2/3
HEAD slide tiles/zxy/9/0/0
MATCH slide tiles/zxy/4/2/3
MATCH slide tiles/zxy/9/0/0
MATCH slide tiles/thumbnail
MATCH slide tiles/region?left=0&top=0&right=64&bottom=64
MATCH golden tiles/histogram
MATCH golden tiles/bands
MATCH slide tiles
slide tiles/zxy/5/0/0
slide tiles/zxy/4/10/0
slide tiles/zxy/4/0/13
slide tiles/zxy/-1/0/0
slide tiles/zxy/0/-1/0
slide tiles/zxy/0/0/-1
slide tiles/zxy/a/0/0
slide tiles/zxy/0/b/0
slide tiles/zxy/0/0/c
slide tiles/zxy/1.5/0/0
slide tiles/zxy/0/0/0?frame=1
slide tiles/zxy/0/0/0?frame=-1
slide tiles/zxy/0/0/0?frame=x
slide tiles/zxy/0/0/0?encoding=BOGUS
slide tiles/zxy/0/0/0?encoding=
slide tiles/zxy/0/0/0?encoding=png
slide tiles/zxy/0/0/0?jpegQuality=x
slide tiles/zxy/0/0/0?jpegQuality=-5
slide tiles/zxy/0/0/0?jpegSubsampling=x
slide tiles/zxy/0/0/0?edge=nocolour
slide tiles/zxy/0/0/0?edge=true
slide tiles/zxy/0/0/0?edge=false
slide tiles/zxy/0/0/0?style=nojson
slide tiles/zxy/0/0/0?style={
slide tiles/zxy/0/0/0?style=
slide tiles/zxy/0/0/0?style=$array?
slide tiles/zxy/0/0/0?style=$palette?
slide tiles/zxy/0/0/0?style=$min?
slide tiles/zxy/0/0/0?style=$frame?
slide tiles/zxy/0/0/0?style=$bands?
slide tiles/zxy/0/0/0?encoding=PNG&style=$word?
slide tiles/zxy/0/0/0?encoding=PNG&encoding=JPEG
slide tiles/zxy/0/0/0?unknown=1
page tiles/zxy/3/1/1?encoding=PNG
page tiles/zxy/3/5/4?encoding=PNG&edge=crop
page tiles/zxy/1/0/0?encoding=PNG
page tiles/zxy/3/2/2?encoding=PNG&style=$rgb
golden tiles/zxy/1/0/0?encoding=PNG&frame=0
golden tiles/zxy/1/1/1?encoding=PNG&style=$none
golden tiles/zxy/1/1/1?encoding=PNG
golden tiles/zxy/1/1/1?encoding=PNG&style=$auto
golden tiles/zxy/1/1/1?encoding=PNG&style=$window
golden tiles/zxy/1/1/1?encoding=JPEG&style=$window
golden tiles/zxy/1/1/1?encoding=PNG&style=$red
golden tiles/zxy/1/1/1?encoding=PNG&style=$red&frame=2
golden tiles/zxy/1/1/1?encoding=PNG&style=$list
golden tiles/zxy/1/1/1?encoding=PNG&style=$steps
golden tiles/zxy/1/1/1?encoding=PNG&style=$viridis
golden tiles/zxy/1/1/1?encoding=PNG&style=$percent
golden tiles/zxy/1/1/1?encoding=PNG&style=$full
golden tiles/zxy/1/1/1?encoding=PNG&style=$three
golden tiles/zxy/1/1/1?encoding=JPEG&style=$three
golden tiles/zxy/1/1/1?encoding=PNG&style=$delta
golden tiles/zxy/1/1/1?encoding=PNG&style=$delta&frame=1
golden tiles/zxy/1/1/1?encoding=PNG&style=$delta&frame=2
golden tiles/zxy/1/1/1?encoding=PNG&style=$clipped
golden tiles/zxy/1/1/1?encoding=PNG&style=$nodata
golden tiles/zxy/1/1/1?encoding=PNG&style=$multiply
golden tiles/zxy/1/1/1?encoding=PNG&style=$frame?
golden tiles/fzxy/1/1/0/1?encoding=PNG&style=$window
golden tiles/fzxy/2/1/0/1?encoding=JPEG&style=$red
golden tiles/fzxy/3/1/0/1
golden tiles/fzxy/x/1/0/1
golden tiles/fzxy/-1/1/0/1
golden tiles/fzxy/0/2/0/0
golden tiles/fzxy/0/0/a/0
golden tiles/zxy/0/0/0?encoding=PNG&style=$window
panel tiles/fzxy/39/1/1/1?encoding=PNG&style=$window
panel tiles/fzxy/7/0/0/0?encoding=PNG&style=$window
panel tiles/zxy/1/0/1?encoding=PNG&style=$three
panel tiles/zxy/0/0/0?encoding=PNG&style=$three
panel tiles/fzxy/40/0/0/0
odd tiles/zxy/3/0/0?encoding=PNG&style=$window
odd tiles/zxy/3/7/6?encoding=PNG&style=$window&edge=crop
odd tiles/zxy/2/0/0?encoding=PNG&style=$window
odd tiles/zxy/1/1/1?encoding=PNG&style=$window&edge=crop
quad tiles/zxy/2/1/1?encoding=PNG
quad tiles/zxy/2/3/2?encoding=JPEG
tall tiles/zxy/2/0/0?encoding=PNG
tall tiles/zxy/2/2/1?encoding=PNG&edge=crop
tall tiles/zxy/2/2/1?encoding=PNG
signed tiles/zxy/0/0/0?encoding=PNG
signed tiles/zxy/0/0/0?encoding=PNG&style=$none
small tiles/zxy/0/0/0?encoding=PNG&frame=1
small tiles/zxy/1/1/0?encoding=PNG&frame=1
alpha tiles/zxy/0/0/0?encoding=PNG
alpha tiles/zxy/0/0/0?encoding=JPEG
slide tiles/thumbnail
slide tiles/thumbnail?encoding=PNG
slide tiles/thumbnail?width=100
slide tiles/thumbnail?height=60&encoding=PNG
slide tiles/thumbnail?width=200&height=50&encoding=PNG
slide tiles/thumbnail?width=1
slide tiles/thumbnail?width=0&height=0
slide tiles/thumbnail?width=x
slide tiles/thumbnail?width=-10
slide tiles/thumbnail?encoding=BOGUS
slide tiles/thumbnail?frame=5
slide tiles/thumbnail?width=50&width=60
golden tiles/thumbnail?frame=1&encoding=PNG&style=$window&width=64
slide tiles/region?left=100&top=200&right=300&bottom=350&encoding=PNG
slide tiles/region?left=100&top=200&regionWidth=200&regionHeight=150&encoding=PNG
slide tiles/region?right=300&bottom=350&regionWidth=200&regionHeight=150&encoding=PNG
slide tiles/region?left=-300&top=-200&right=-100&bottom=-50&encoding=PNG
slide tiles/region?left=100&top=200&right=300&bottom=350
slide tiles/region?left=0.1&top=0.1&right=0.2&bottom=0.2&units=fraction&encoding=PNG
slide tiles/region?left=.1&top=.1&regionWidth=9&regionHeight=7&units=fraction&unitsWH=base_pixels&encoding=PNG
slide tiles/region?left=0.1&top=0.1&right=0.2&bottom=0.2&units=mm&encoding=PNG
slide tiles/region?left=100&top=200&right=500&bottom=600&width=100&encoding=PNG
slide tiles/region?left=100&top=200&right=500&bottom=600&width=100&height=50&encoding=PNG
slide tiles/region?left=100&top=200&right=500&bottom=600&magnification=10&encoding=PNG
slide tiles/region?left=50&top=50&right=150&bottom=150&magnification=10&units=mag_pixels&encoding=PNG
slide tiles/region?left=100&top=200&right=500&bottom=600&magnification=7&exact=true&encoding=PNG
slide tiles/region?left=2100&top=2900&right=9000&bottom=9000&encoding=PNG
slide tiles/region?left=5000&top=5000&right=6000&bottom=6000&encoding=PNG
slide tiles/region?left=300&top=200&right=100&bottom=350&encoding=PNG
slide tiles/region?left=100&top=200&right=100&bottom=350&encoding=PNG
slide tiles/region?left=100&top=200&right=300&bottom=350&encoding=TIFF
slide tiles/region?left=x
slide tiles/region?width=x
slide tiles/region?width=0
slide tiles/region?width=-5
slide tiles/region?units=furlongs
slide tiles/region?unitsWH=furlongs
slide tiles/region?magnification=x
slide tiles/region?encoding=BOGUS
slide tiles/region?style=nojson
slide tiles/region?frame=4
slide tiles/region?left=1&left=2
slide tiles/region?left=0&top=0&right=64&bottom=64&encoding=PNG&style=$rgb
HEAD slide tiles/region?left=0&top=0&right=64&bottom=64
slide tiles/region?left=0&top=0&right=64&bottom=64&encoding=PNG&contentDisposition=attachment
slide tiles/region?left=0&top=0&right=64&bottom=64&encoding=PNG&contentDisposition=nonsense
HEAD slide tiles/histogram?bins=4
HEAD slide tiles/pixel?left=1&top=1
slide tiles/zxy/4/2/3?encoding=PNG&frame=
golden tiles/region?left=10&top=20&right=110&bottom=90&encoding=PNG&style=$window
golden tiles/region?left=10&top=20&right=110&bottom=90&encoding=PNG&style=$three
golden tiles/region?left=10&top=20&right=110&bottom=90&encoding=PNG&frame=1&style=$red
tall tiles/region?left=200&top=480&right=300&bottom=600&encoding=PNG
slide tiles/pixel?left=300&top=400
slide tiles/pixel?left=0&top=0
slide tiles/pixel?left=2219&top=2966
slide tiles/pixel?left=2220&top=0
slide tiles/pixel?left=-1&top=5
slide tiles/pixel?left=x&top=5
slide tiles/pixel?left=5
slide tiles/pixel
slide tiles/pixel?left=0.5&top=0.5&units=fraction
slide tiles/pixel?left=5&top=5&units=furlongs
slide tiles/pixel?left=5&top=5&frame=3
slide tiles/pixel?left=5&left=6&top=5
golden tiles/pixel?left=100&top=120
golden tiles/pixel?left=100&top=120&frame=2
golden tiles/pixel?left=100&top=120&frameList=0,1,2
golden tiles/pixel?left=100&top=120&frameList=[0,2]
golden tiles/pixel?left=100&top=120&frameList=a
golden tiles/pixel?left=100&top=120&style=$red
signed tiles/pixel?left=20&top=30
alpha tiles/pixel?left=3&top=3
slide tiles/histogram?bins=16
slide tiles/histogram?left=0&top=0&right=200&bottom=200&bins=8
slide tiles/histogram?bins=10&rangeMin=50&rangeMax=200
slide tiles/histogram?bins=8&density=true
slide tiles/histogram?bins=x
slide tiles/histogram?bins=0
slide tiles/histogram?rangeMin=x
slide tiles/histogram?frame=7
golden tiles/histogram
golden tiles/histogram?frame=1&bins=32
golden tiles/histogram?frame=2&bins=32&roundRange=true
golden tiles/histogram?frame=0&bins=12&width=128&height=128&resample=false
panel tiles/histogram?frame=39&bins=16
tall tiles/histogram?bins=16
signed tiles/histogram?bins=16
slide tiles/bands
golden tiles/bands
golden tiles/bands?frame=1
golden tiles/bands?frame=9
golden tiles/bands?frame=x
slide tiles/dzi.dzi
slide tiles/dzi.dzi?encoding=PNG
slide tiles/dzi.dzi?tilesize=512&overlap=2
slide tiles/dzi.dzi?tilesize=100
slide tiles/dzi.dzi?tilesize=x
slide tiles/dzi.dzi?overlap=-1
slide tiles/dzi.dzi?encoding=TIFF
slide tiles/dzi_files/12/3_4.png?encoding=PNG
slide tiles/dzi_files/12/3_4.jpg
slide tiles/dzi_files/12/3_4.png?encoding=PNG&overlap=4
slide tiles/dzi_files/12/8_11.png?encoding=PNG
slide tiles/dzi_files/0/0_0.png?encoding=PNG
slide tiles/dzi_files/13/0_0.png
slide tiles/dzi_files/12/9_0.png
slide tiles/dzi_files/x/0_0.png
slide tiles/dzi_files/12/a_b.png
slide tiles/dzi_files/12/-1_0.png
golden tiles/tile_frames?width=64&height=64&encoding=PNG&style=$window
golden tiles/tile_frames?encoding=PNG&style=$window&framesAcross=3
golden tiles/tile_frames?encoding=PNG&style=$window&frameList=2,0
golden tiles/tile_frames?framesAcross=x
golden tiles/tile_frames?frameList=x
golden tiles/tile_frames?frameList=9
golden tiles/tile_frames/quad_info
golden tiles/tile_frames/quad_info?frameBase=1&frameStride=2
panel tiles/tile_frames/quad_info
panel tiles/tile_frames/quad_info?maxTextureSize=256&maxTextures=4
panel tiles/tile_frames/quad_info?frameGroup=4&frameGroupFactor=2
panel tiles/tile_frames/quad_info?frameStride=c
panel tiles/tile_frames/quad_info?frameStride=q
panel tiles/tile_frames/quad_info?maxTextureSize=x
panel tiles/tile_frames/quad_info?format=nojson
slide tiles/tile_frames/quad_info
slide tiles/images
golden tiles/images
page tiles/images
slide tiles/images/thumbnail
slide tiles/images/label
slide tiles/images/nothing
slide tiles/images/thumbnail/metadata
slide tiles/images/nothing/metadata
slide tiles/internal_metadata
golden tiles/internal_metadata
- large_image/sources
- large_image/cache
PUT - large_image/cache/clear
DELETE - large_image/cache
- item/test/tiles
- item/test/tiles?sizeX=1000&sizeY=700&tileWidth=128&tileHeight=128&maxLevel=3
- item/test/tiles/zxy/0/0/0
- item/test/tiles/zxy/3/1/1?encoding=JPEG
- item/test/tiles/zxy/a/0/0
- item/test/tiles/zxy/-1/0/0
- item/test/tiles/zxy/99/0/0
- item/test/tiles?maxLevel=x
- item/test/tiles?tileWidth=0
"""

REQUESTS = tuple(line for line in LINES.splitlines() if line)


def target(line: str, items: dict[str, str]) -> tuple[str, str]:
    """Return (method, path with query) of a line; ``items`` has the id of each file's name."""
    words = line.split(" ")
    method = words.pop(0) if words[0].isupper() else "GET"
    file, path = words
    base = "" if file == "-" else f"item/{items[FILES[file].split('/')[-1]]}/"
    return method, f"/{base}{_with_styles(path)}"


def _with_styles(path: str) -> str:
    address, mark, query = path.partition("?")
    parts = [_with_style(part) for part in query.split("&")]
    return f"{address}{mark}{'&'.join(parts)}"


def _with_style(part: str) -> str:
    name, mark, value = part.partition("=")
    if value.startswith("$"):
        value = quote(json.dumps(STYLES[value[1:]]), safe="")
    return f"{name}{mark}{value}"
