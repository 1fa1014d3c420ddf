"""YAML: what is read of it, as plain data, and what is refused before it grows."""

from __future__ import annotations

import json
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some

from gputiles import yamltext
from gputiles.errors import BadRequest, GputilesError, LimitExceeded, Unsupported

LAUGHS = "a: &a [x]\n" + "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in
                                 zip("abcdefgh", "bcdefghi", strict=True))  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("---\n# nothing\n", None),
        ("a: 1\nb: [x, 'µ', 1.5, true, ~]\n", {"a": 1, "b": ["x", "µ", 1.5, True, None]}),
        ('palette: "#0000FF"\nnext: #0000FF\n', {"palette": "#0000FF", "next": None}),
        ("day: 2001-01-01\n", {"day": "2001-01-01"}),
        ("1: a\n", {1: "a"}),
        ("a: 1\na: 2\n", {"a": 2}),
        ('{"json": [1, "two"]}', {"json": [1, "two"]}),
        ("text: |\n  two\n  lines\n", {"text": "two\nlines\n"}),
        ("\ufeffa: 1", {"a": 1}),
    ],
)
def test_yaml_is_plain_data(text: str, value: Any) -> None:
    assert yamltext.parse(text.encode()) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LAUGHS, "line 2: aliases (*a) are not read here"),
        ("a: &a [*a]", "aliases"),
        ("base: &base {x: 1}\nmore:\n  <<: *base\n", "line 3: aliases (*base)"),
        ("a: !!python/object/apply:os.system ['true']", "tags (tag:yaml.org,2002:python/object/apply:os.sy"),
        ("a: !mine 1", "tags (!mine)"),
        ("a: !!timestamp x", "tags"),
        ("[" * 33 + "]" * 33, "expected at most 32 lists and mappings in each other"),
        ("[" * 200_000, "nesting"),
        ("- " * 5000 + "x", "expected at most 32"),
        ("a: " + "1:" * 9000 + "1", "expected at most 16384 characters of a value"),
        ("a: " + "9" * 5000, "integer string conversion"),
        ("a: b: c", "line 1"),
        ("a: 1\n---\nb: 2", "single document"),
        ("? [1]\n: 2", "unhashable"),
        ("a: [1", "line 1"),
        ("\0", "not allowed"),
        ("x: =", "could not determine"),
        ("a: 0x_", "invalid literal"),
    ],
)
def test_what_is_no_plain_data_is_refused_with_its_line(text: str, reason: str) -> None:
    with pytest.raises(BadRequest) as told:
        yamltext.parse(text.encode())
    assert str(told.value).startswith("YAML: ")
    assert reason in str(told.value)


def test_a_long_text_is_refused_before_it_is_read() -> None:
    with pytest.raises(LimitExceeded, match="at most 1048576 bytes; got 1048577"):
        yamltext.parse(b"#" * (yamltext.LONGEST + 1))
    assert yamltext.parse(b"#" * yamltext.LONGEST) is None


@given(some.text(alphabet="a1:-[]{}&*!<?#'\"|> \n\t,.~=%@`\\xuU0é", max_size=60))
def test_any_text_is_data_or_an_error_of_the_house(text: str) -> None:
    with suppress(GputilesError):
        json.dumps(yamltext.parse(text.encode()), default=str)  # nothing that refers to itself


@given(some.binary(max_size=40))
def test_any_bytes_are_data_or_an_error_of_the_house(data: bytes) -> None:
    with suppress(GputilesError):
        yamltext.parse(data)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamltext, "_library", lambda: None)
    with pytest.raises(Unsupported, match=r"pip install 'gputiles\[yaml\]'"):
        yamltext.parse(b"a: 1")


@pytest.mark.parametrize(
    "text", ["a: [1, {b: 2001-01-01}]", "a: &a [*a]", "!!int x", "[" * 500, "a: b: c", "x: µ"]
)
def test_without_its_part_in_c_the_library_reads_and_refuses_the_same(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome() -> Any:
        try:
            return yamltext.parse(text.encode())
        except GputilesError as error:
            return type(error)

    in_c = outcome()
    without = SimpleNamespace(**{name: getattr(yaml, name) for name in dir(yaml) if name != "CSafeLoader"})
    loader = yamltext._loader.__wrapped__(without)
    assert loader is not yamltext._loader(yaml)
    monkeypatch.setattr(yamltext, "_loader", lambda _: loader)
    assert outcome() == in_c
