# SPDX-License-Identifier: Apache-2.0
"""Has the datapath make room for more selectors, and tells when there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.tables.datapath import INSTALLED_WIDTH
from ciliumpy.tables.enforcement import WANTED_WIDTH, WantedWidth

if TYPE_CHECKING:
    from ciliumpy.state.database import Database

WAITS = ""  # for a refusal that may yet be none


class Room:
    """`bits` is how many there are, `most` how many there can be. `feed` has something new when either has changed."""

    def __init__(self, db: Database, bits: int, most: int) -> None:
        self.bits, self.most = bits, max(bits, most)
        self._db = db
        self.feed = db.table(INSTALLED_WIDTH).observe("enforcement")

    def ask(self, why: str) -> str:
        """Ask for all that there can be; return WAITS while they may come, or why they will not."""
        wanted = WantedWidth(self.most)
        if self._db.table(WANTED_WIDTH).get(0) != wanted:
            with self._db.write() as txn:
                txn.upsert(WANTED_WIDTH, wanted)
        row = self._db.table(INSTALLED_WIDTH).get(0)
        return f"{why}; there cannot be {self.most}: {row.error}" if row is not None and row.error else WAITS

    def changed(self) -> bool:
        """Take what is new; tell whether it is worth to try again what found no room."""
        changes = self.feed.take()
        self.bits = max([self.bits, *(change.row.bits for change in changes)])
        return bool(changes)
