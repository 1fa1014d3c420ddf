"""YAML as plain data: read safely, within limits, by PyYAML where it is installed."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from gputiles.errors import BadRequest, LimitExceeded, Unsupported

LONGEST = 1024**2  # bytes of a text
DEEPEST = 32  # lists and mappings in each other
LONGEST_SCALAR = 16_384  # characters: a number of more would take its time
EXTRA = "YAML is read with the extra 'yaml', which is not installed: pip install 'gputiles[yaml]'"


def parse(text: bytes) -> Any:
    """Return the one document of a YAML text: lists, dictionaries, texts, numbers, None; dates stay texts.

    Aliases are refused, for a short text of them may stand for gigabytes, and tags. Raises BadRequest
    with the line, LimitExceeded where it is too long, Unsupported where PyYAML is not installed. It blocks:
    for the reading room.
    """
    if len(text) > LONGEST:
        raise LimitExceeded(f"YAML: at most {LONGEST} bytes; got {len(text)}")
    yaml = _library()
    if yaml is None:
        raise Unsupported(EXTRA)
    try:
        _check(yaml, text)
        return yaml.load(text, _loader(yaml))
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BadRequest(f"YAML: {reason}") from error


def _check(yaml: Any, text: bytes) -> None:
    """Refuse what would grow, or nests too deeply, before anything is made of it."""
    depth = 0
    for event in yaml.parse(text, _loader(yaml)):
        where = f"YAML: line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise BadRequest(f"{where}: aliases (*{event.anchor[:64]}) are not read here")
        if getattr(event, "tag", None) is not None:
            raise BadRequest(f"{where}: tags ({event.tag[:64]}) are not read here")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST_SCALAR:
            raise BadRequest(f"{where}: expected at most {LONGEST_SCALAR} characters of a value")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise BadRequest(f"{where}: expected at most {DEEPEST} lists and mappings in each other")


@cache
def _library() -> Any:
    """Return PyYAML, or None where the extra is not installed; imported on first use."""
    try:
        return importlib.import_module("yaml")
    except ImportError:
        return None


@cache
def _loader(yaml: Any) -> Any:
    """Return the safe loader, in C where PyYAML has it, without the dates that JSON does not know."""
    safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    timestamp = "tag:yaml.org,2002:timestamp"
    resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag != timestamp]
        for first, known in safe.yaml_implicit_resolvers.items()
    }
    return type("Loader", (safe,), {"yaml_implicit_resolvers": resolvers})
