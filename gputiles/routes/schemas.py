"""JSON schemas of what routes take and answer, in the words of OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from gputiles.entries import BAND_NAMES
from gputiles.grammar import BLENDS, DTYPES, INTENTS, MOST_BANDS, SCHEMES

Schema: TypeAlias = Mapping[str, Any]

ANYTHING: Schema = {}
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
INTEGER: Schema = {"type": "integer"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
COLOUR: Schema = {"type": "integer", "minimum": 0, "maximum": 255}


def record(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object with these keys; others may be there too."""
    schema = {"type": "object", "properties": {**required, **(optional or {})}}
    return {**schema, "required": [*required]} if required else schema


def listed(of: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": of}


def table(of: Schema) -> Schema:
    """Return the schema of an object whose keys are names."""
    return {"type": "object", "additionalProperties": of}


def one_of(words: Sequence[str]) -> Schema:
    """Return the schema of some words."""
    return {"type": "string", "enum": list(words)}


def maybe(schema: Schema) -> Schema:
    """Return the schema of what may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def named(name: str) -> Schema:
    """Return the schema that NAMED has under a name."""
    if name not in NAMED:
        raise KeyError(name)
    return {"$ref": f"#/components/schemas/{name}"}


_LIMIT: Schema = {
    "anyOf": [NUMBER, {"type": "string", "pattern": r"^(full|(auto|min|max)(:(0(\.[0-9]+)?|1))?)$"}],
    "default": "auto",
}
_BAND: dict[str, Schema] = {
    "band": {"anyOf": [{"type": "integer", "minimum": 1}, one_of(BAND_NAMES)]},
    "channel": {"anyOf": [WHOLE, {"type": "string", "minLength": 1}]},
    "frame": INTEGER,
    "framedelta": INTEGER,
    "min": _LIMIT,
    "max": _LIMIT,
    "palette": {
        "anyOf": [TEXT, listed(TEXT)],
        "description": "a colour, a list of colours or the name of a palette",
        "examples": ["#ff00ff"],
    },
    "scheme": {**one_of(SCHEMES), "default": "linear"},
    "composite": {**one_of(BLENDS), "default": "lighten"},
    "gamma": {"type": "number", "exclusiveMinimum": 0, "default": 1},
    "opacity": {"type": "number", "minimum": 0, "maximum": 1, "default": 1},
    "nodata": NUMBER,
    "clamp": {"type": "boolean", "default": True},
    "dtype": one_of(DTYPES),
    "axis": {"type": "integer", "minimum": 0, "maximum": 3},
}

GROUP = record({"name": TEXT, "channels": listed(WHOLE)})

NAMED: dict[str, Schema] = {
    "Error": record({"message": TEXT, "type": one_of(["rest"])}),
    "Item": record({"id": TEXT, "name": TEXT, "size": WHOLE}, {"error": TEXT}),
    "Band": record({}, _BAND),
    "Style": {
        **record(
            {},
            {
                "bands": {**listed({"$ref": "#/components/schemas/Band"}), "maxItems": MOST_BANDS},
                "icc": {"anyOf": [FLAG, one_of(INTENTS)]},
                **_BAND,
            },
        ),
        "description": "bands, or one band without the list; OMERO's rendering settings are taken too",
    },
    "Metadata": record(
        {
            **dict.fromkeys(("levels", "sizeX", "sizeY", "tileWidth", "tileHeight"), WHOLE),
            **dict.fromkeys(("magnification", "mm_x", "mm_y"), maybe(NUMBER)),
            "dtype": TEXT,
            "bandCount": WHOLE,
        },
        {
            "frames": listed(record({"Frame": WHOLE, "Index": WHOLE}, {"Channel": TEXT})),
            "IndexRange": table(WHOLE),
            "IndexStride": table(WHOLE),
            "channels": listed(TEXT),
            "channelmap": table(WHOLE),
            "channelColors": listed(maybe(TEXT)),
            "channelGroups": listed(GROUP),
            "omero": record({"version": TEXT, "channels": listed(table(ANYTHING)), "rdefs": table(ANYTHING)}),
            "iccProfile": FLAG,
            "missing": listed(WHOLE),
            "warnings": listed(TEXT),
        },
    ),
    "Caches": record(
        {
            "tilesource": record({"maxsize": WHOLE, "used": WHOLE}),
            "tileCache": record({"maxsize": WHOLE, "used": WHOLE, "items": WHOLE}),
            "shelves": table(table(ANYTHING)),
            **dict.fromkeys(("sources", "styled", "descriptors", "reading"), WHOLE),
            "counts": table(WHOLE),
            "readSeconds": NUMBER,
            "queue": table(ANYTHING),
            "device": record({"name": TEXT, "workers": WHOLE}),
        },
        {
            "refusals": table(WHOLE),
            "images": listed(record({"id": TEXT, "name": TEXT, "bytes": table(WHOLE)})),
        },
    ),
}  # fmt: skip
"""The schemas of ``#/components/schemas``."""
