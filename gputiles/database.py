"""Databases of the stores: SQLite files, used in the reading room."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gputiles.errors import Unavailable


def open_database(path: Path | None, table: str, kept: str) -> sqlite3.Connection:
    """Open the database at ``path`` (None: in memory), and see to it that ``table`` is there.

    ``table`` is a statement that creates it. Several threads may use the connection at once:
    SQLite takes turns, and each statement commits by itself. Raises Unavailable, in which
    ``kept`` is what is stored there, where it cannot be opened.
    """
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(
            path or ":memory:", isolation_level=None, check_same_thread=False, timeout=5.0
        )
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(table)
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"The store of {kept} {str(path)!r} cannot be opened: {error}.") from error
    return database
