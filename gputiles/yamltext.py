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
        return yaml.load(text, _loader(yaml))
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BadRequest(f"YAML: {reason}") from error


@cache
def _library() -> Any:
    """Return PyYAML, or None where the extra is not installed; imported on first use."""
    try:
        return importlib.import_module("yaml")
    except ImportError:
        return None


@cache
def _loader(yaml: Any) -> Any:
    """Return PyYAML's safe loader, which reads in C where it can, made to refuse what ``_check`` does.

    Nodes are put together in Python: done in C, a long text would hold up all other threads meanwhile.
    Dates, which JSON does not know, stay texts.
    """
    safe, composer = getattr(yaml, "CSafeLoader", yaml.SafeLoader), yaml.composer.Composer
    timestamp = "tag:yaml.org,2002:timestamp"

    def begin(self: Any, stream: bytes) -> None:
        safe.__init__(self, stream)
        composer.__init__(self)
        self.depth = 0

    def compose_node(self: Any, parent: Any, index: Any) -> Any:
        self.depth += 1
        _check(self.peek_event(), self.depth)
        node = composer.compose_node(self, parent, index)
        self.depth -= 1
        return node

    bases = (safe,) if issubclass(safe, composer) else (composer, safe)
    resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag != timestamp]
        for first, known in safe.yaml_implicit_resolvers.items()
    }
    made = {"__init__": begin, "compose_node": compose_node, "yaml_implicit_resolvers": resolvers}
    return type("Loader", bases, made)


def _check(event: Any, depth: int) -> None:
    """Refuse a node that would make others grow, is of no plain data, or lies too deep."""
    where, value = f"YAML: line {event.start_mark.line + 1}", getattr(event, "value", None)
    tag = getattr(event, "tag", None)
    if not hasattr(event, "tag"):
        raise BadRequest(f"{where}: aliases (*{event.anchor[:64]}) are not read here")
    if tag is not None:
        raise BadRequest(f"{where}: tags ({tag[:64]}) are not read here")
    if value is not None and len(value) > LONGEST_SCALAR:
        raise BadRequest(f"{where}: expected at most {LONGEST_SCALAR} characters of a value")
    if depth > DEEPEST:
        raise BadRequest(f"{where}: expected at most {DEEPEST} lists and mappings in each other")
