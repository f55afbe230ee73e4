# SPDX-License-Identifier: Apache-2.0
"""Observers: who wants to know what changed in a table, at his own pace."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from ciliumpy.state.table import Table

R = TypeVar("R")


class Change(NamedTuple, Generic[R]):
    """The last change of a row; of a deleted one, the row as it was."""

    revision: int
    row: R
    deleted: bool


class Observer(Generic[R]):
    """A position in a table's log of changes. Made by `Table.observe`."""

    def __init__(self, name: str, table: Table[R], limit: int | None = None) -> None:
        self.name = name
        self.limit = limit
        self.missed = 0
        """Changes it had not taken when it was closed for being more than `limit` deletions behind."""
        self.seen = 0
        self.started = False
        self.closed = False
        self._poked = False
        self._table = table
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def pending(self) -> bool:
        """Whether `take()` would give something. Before the first take only rows count, not deletions."""
        if self.closed or self._poked:
            return self._poked
        return self._table.revision > self.seen if self.started else len(self._table) > 0

    def take(self) -> list[Change[R]]:
        """Return all changes since the last call, oldest first; the first call gives every row."""
        if self.closed:
            raise RuntimeError(f"observer {self.name} of table {self._table.spec.name} is closed")
        changes = self._table._changes_since(self.seen)
        if not self.started:
            changes = [change for change in changes if not change.deleted]
            self.started = True
        self._poked = False
        self.seen = self._table.revision
        self._table._bury()
        return changes

    async def wait(self) -> None:
        """Wait until `take()` would give something."""
        await wait_any(self)

    def poke(self) -> None:
        """End the present or the next wait though nothing changed; `take()` may then give nothing."""
        self._poked = True
        self._wake()

    def close(self) -> None:
        """Let go of the table: deletions are kept for this observer no longer. Who waits for it gets an error."""
        if not self.closed:
            self.closed = True
            self._table._drop_observer(self)
            self._wake()

    def _wake(self) -> None:
        for future in self._waiters:
            if not future.done():
                future.set_result(None)
        self._waiters.clear()


async def wait_any(*observers: Observer[Any], timeout_s: float | None = None) -> None:
    """Wait until one of the observers has something to take, or the time is up."""
    try:
        async with asyncio.timeout(timeout_s):
            while not any(observer.pending for observer in observers):
                closed = next((observer for observer in observers if observer.closed), None)
                if closed is not None:
                    raise RuntimeError(f"observer {closed.name} is closed")
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                try:
                    for observer in observers:
                        observer._waiters.add(future)
                    await future
                finally:
                    for observer in observers:
                        observer._waiters.discard(future)
    except TimeoutError:
        return
