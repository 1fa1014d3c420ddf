"""The store of presets: named views of items, in SQLite, used in the reading room."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gputiles.database import open_database
from gputiles.errors import LimitExceeded, Unavailable

MOST = 200  # presets of an item
MOST_BYTES = 256 * 1024**2  # of all presets together: nothing that somebody named is dropped for others

_TABLE = """
    CREATE TABLE IF NOT EXISTS presets (
        item TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, size INTEGER NOT NULL,
        saved INTEGER NOT NULL, PRIMARY KEY (item, name)
    ) WITHOUT ROWID
"""
_PUT = """
    INSERT INTO presets (item, name, body, size, saved)
    WITH given AS (
        SELECT json_extract(value, '$[0]') AS name, json_extract(value, '$[1]') AS body, key AS number
        FROM json_each(:views)
    ), others AS (
        SELECT * FROM presets WHERE item <> :item OR name NOT IN (SELECT name FROM given)
    )
    SELECT :item, name, body, length(CAST(body AS BLOB)), :saved + number FROM given
    WHERE (SELECT count(*) FROM others WHERE item = :item) + (SELECT count(*) FROM given) <= :most
    AND (SELECT coalesce(sum(size), 0) FROM others)
        + (SELECT sum(length(CAST(body AS BLOB))) FROM given) <= :bytes
    ON CONFLICT (item, name) DO UPDATE
    SET body = excluded.body, size = excluded.size, saved = excluded.saved
"""
_LIST = "SELECT name, body, saved FROM presets WHERE item = ? ORDER BY saved, name"
_NAMES = "SELECT name FROM presets WHERE item = ?"
_GET = "SELECT name, body, saved FROM presets WHERE item = ? AND name = ?"
_DELETE = "DELETE FROM presets WHERE item = ? AND name = ?"


@dataclass(frozen=True, slots=True)
class Preset:
    """A named view: ``body`` is JSON text, ``saved`` the second it was saved in, since 1970."""

    name: str
    body: str
    saved: float


class PresetStore:
    """At most ``most`` presets of each item, of together at most ``most_bytes``.

    ``path`` is the SQLite file, None a database in memory. The methods block: they are for
    the reading room, where several threads may call them at once (SQLite takes turns).
    All raise Unavailable where the database cannot be read or written.
    """

    def __init__(self, path: Path | None, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._database = open_database(path, _TABLE, "presets")

    def put(self, item: str, views: Mapping[str, str]) -> None:
        """Keep views by their names as presets of an item, each in place of one of that name.

        Raises LimitExceeded where there are too many: then none is kept, and none is dropped for another.
        """
        values = {
            "item": item, "views": json.dumps(list(views.items())), "saved": time.time_ns(),
            "most": self._most, "bytes": self._most_bytes,
        }  # fmt: skip
        if self._run(_PUT, values)[1] != len(views):
            raise LimitExceeded(f"presets: at most {self._most} of an item, {self._most_bytes} bytes in all")

    def all(self, item: str) -> list[Preset]:
        """Return the presets of an item, the oldest first."""
        return [_preset(row) for row in self._run(_LIST, (item,))[0]]

    def names(self, item: str) -> set[str]:
        """Return the names of the presets of an item."""
        return {name for (name,) in self._run(_NAMES, (item,))[0]}

    def get(self, item: str, name: str) -> Preset | None:
        """Return a preset of an item, or None."""
        rows = self._run(_GET, (item, name))[0]
        return _preset(rows[0]) if rows else None

    def delete(self, item: str, name: str) -> bool:
        """Drop a preset of an item; say whether there was one."""
        return self._run(_DELETE, (item, name))[1] > 0

    def _run(self, statement: str, values: dict[str, object] | tuple[str, ...]) -> tuple[list[Any], int]:
        """Return the rows that a statement finds, and how many it changed."""
        try:
            cursor = self._database.execute(statement, values)
            return cursor.fetchall(), cursor.rowcount
        except sqlite3.Error as error:
            raise Unavailable(f"The presets cannot be read or stored: {error}.") from error

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _preset(row: tuple[str, str, int]) -> Preset:
    name, body, saved = row
    return Preset(name, body, saved / 1e9)
