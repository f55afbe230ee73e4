# SPDX-License-Identifier: Apache-2.0
"""The last good version of every object in force, on disk: what holds when a file turns bad, also after a restart.

One SQLite file of the agent's own, `<state>/last-good/objects.sqlite`. It is a memory and no source: an object is taken
from it only while the file it came from cannot be read.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.store.interface import Key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)
_TABLE = """
CREATE TABLE IF NOT EXISTS object (
  kind TEXT, namespace TEXT, name TEXT, origin TEXT, document BLOB, PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_origin ON object (origin);
"""
_SAVE = """
INSERT INTO object VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET origin = excluded.origin,
document = excluded.document WHERE origin != excluded.origin OR document != excluded.document
"""


class Remembered(NamedTuple):
    key: Key
    origin: str
    document: dict[str, Any]


class LastGood:
    """Safe to use from several threads; `save` and `keep_only` are for one that may wait."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        path = folder / "objects.sqlite"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._db = _open(path)
            except sqlite3.DatabaseError as error:
                _log.warning("%s is damaged and put aside, what it remembered is lost: %s", path, error)
                path.replace(path.with_suffix(".damaged"))
                self._db = _open(path)
        except (OSError, sqlite3.Error) as error:
            raise CiliumpyError(f"cannot remember good versions in {path}: {error}") from None

    def get(self, key: Key) -> Remembered | None:
        return next(self._select("kind = ? AND namespace = ? AND name = ?", *key), None)

    def of_origin(self, origin: str) -> list[Remembered]:
        return list(self._select("origin = ?", origin))

    def of_kinds(self, kinds: Collection[str]) -> list[Remembered]:
        return [each for kind in kinds for each in self._select("kind = ?", kind)]

    def origins(self) -> list[str]:
        """Return all origins, sorted."""
        with self._lock:
            return [origin for (origin,) in self._db.execute("SELECT DISTINCT origin FROM object ORDER BY origin")]

    def save(self, objects: Iterable[tuple[Key, str, bytes]], forgotten: Iterable[Key]) -> None:
        """Remember objects (key, origin, JSON) and forget others, in one step. CiliumpyError if it cannot."""
        try:
            with self._lock, self._db:
                self._db.executemany("DELETE FROM object WHERE kind = ? AND namespace = ? AND name = ?", forgotten)
                self._db.executemany(_SAVE, ((*key, origin, document) for key, origin, document in objects))
        except sqlite3.Error as error:
            raise CiliumpyError(f"cannot remember good versions: {error}") from None

    def keep_only(self, keys: Collection[Key]) -> None:
        """Forget what is not among these."""
        with self._lock:
            known = [Key(*row) for row in self._db.execute("SELECT kind, namespace, name FROM object")]
        self.save((), [key for key in known if key not in keys])

    def close(self) -> None:
        """Wait for whoever is at it, and end; nothing can be remembered after."""
        with self._lock:
            self._db.close()

    def _select(self, where: str, *values: str) -> Iterator[Remembered]:
        query = f"SELECT * FROM object WHERE {where} ORDER BY 1, 2, 3"  # noqa: S608 - own text
        with self._lock:
            rows = self._db.execute(query, values).fetchall()
        for kind, namespace, name, origin, document in rows:
            yield Remembered(Key(kind, namespace, name), origin, msgspec.json.decode(document))


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False, timeout=10)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_TABLE)
    except sqlite3.Error:
        db.close()
        raise
    return db
