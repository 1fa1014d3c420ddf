"""The store of posted styles: bounded, in SQLite, used in the reading room."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from gputiles.database import open_database
from gputiles.errors import Unavailable

_TABLE = """
    CREATE TABLE IF NOT EXISTS styles (
        id TEXT PRIMARY KEY, body TEXT NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL
    ) WITHOUT ROWID
"""
_PUT = """
    INSERT INTO styles (id, body, size, used) VALUES (?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET used = excluded.used
"""
_GET = "UPDATE styles SET used = ? WHERE id = ? RETURNING body"
_TRIM = """
    DELETE FROM styles WHERE id IN (
        SELECT id FROM (
            SELECT id, row_number() OVER latest AS place, sum(size) OVER latest AS bytes
            FROM styles WINDOW latest AS (ORDER BY used DESC, id)
        ) WHERE place > ? AND place > 1 OR bytes > ? AND place > 1
    )
"""


class StyleStore:
    """At most ``most`` styles of together at most ``most_bytes``, by id; the least used go first.

    ``path`` is the SQLite file, None a database in memory. The methods block: they are for
    the reading room, where several threads may call them at once (SQLite takes turns).
    All raise Unavailable where the database cannot be read or written.
    """

    def __init__(self, path: Path | None, most: int, most_bytes: int = 256 * 1024**2) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._database = open_database(path, _TABLE, "styles")

    def put(self, style_id: str, body: str) -> None:
        """Keep ``body`` under ``style_id``, and drop what has not been used for longest."""
        try:
            self._database.execute(_PUT, (style_id, body, len(body.encode()), time.time_ns())).close()
            self._database.execute(_TRIM, (self._most, self._most_bytes)).close()
        except sqlite3.Error as error:
            raise Unavailable(f"The style cannot be stored: {error}.") from error

    def get(self, style_id: str) -> str | None:
        """Return the style of ``style_id``, or None; it counts as used now."""
        try:
            rows = self._database.execute(_GET, (time.time_ns(), style_id)).fetchall()
        except sqlite3.Error as error:
            raise Unavailable(f"The stored style cannot be read: {error}.") from error
        return rows[0][0] if rows else None

    def close(self) -> None:
        """Close the database."""
        self._database.close()
