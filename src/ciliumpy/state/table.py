# SPDX-License-Identifier: Apache-2.0
"""A table: rows by key, indexes, the log of changes, and the status that stands beside each row."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

import msgspec

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.state.observer import Change, Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from ciliumpy.kit.clock import Clock

R = TypeVar("R")
State = Literal["pending", "done", "error"]


class TableSpec(Generic[R]):
    """What a table is: its name, its row (a frozen struct), its primary key and its indexes. Declared in `tables/`.

    An index function gives the values under which a row is found: none, one or many.
    """

    __slots__ = ("indexes", "key", "name", "row")

    def __init__(
        self,
        name: str,
        row: type[R],
        key: Callable[[R], Hashable],
        indexes: Mapping[str, Callable[[R], tuple[Hashable, ...]]] | None = None,
    ) -> None:
        self.name = name
        self.row = row
        self.key = key
        self.indexes: Mapping[str, Callable[[R], tuple[Hashable, ...]]] = dict(indexes or {})

    def __repr__(self) -> str:
        return f"TableSpec({self.name!r})"


class Status(msgspec.Struct, frozen=True):
    """How far the reconciler is with a row, of which revision, and since when (wall clock)."""

    state: State
    error: str
    since_ns: int
    revision: int


class Entry(NamedTuple, Generic[R]):
    """A row with its revision, the one at which its key came into the table, and the time of the write."""

    row: R
    revision: int
    created: int
    at_ns: int


class Table(Generic[R]):
    """One table of a database. Reading is free at any time; writing goes through `Database.write`."""

    def __init__(self, spec: TableSpec[R], clock: Clock) -> None:
        self.spec = spec
        self.revision = 0
        self.reconciled = False
        """Whether a reconciler reports on the rows; without one every status would be pending for ever."""
        self._clock = clock
        self._entries: dict[Hashable, Entry[R]] = {}
        self._indexes: dict[str, dict[Hashable, dict[Hashable, None]]] = {name: {} for name in spec.indexes}
        # The last change of each key, in order of revision: a key that changes moves to the end.
        self._log: dict[Hashable, Change[R]] = {}
        self._graves: deque[tuple[int, Hashable]] = deque()
        self._observers: list[Observer[R]] = []
        self._statuses: dict[Hashable, Status] = {}
        self._leaving: set[Hashable] | None = None
        self._waiters: dict[Hashable, set[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def get(self, key: Hashable) -> R | None:
        entry = self._entries.get(key)
        return None if entry is None else entry.row

    def all(self) -> list[R]:
        """Return all rows, in the order in which their keys came."""
        return [entry.row for entry in self._entries.values()]

    def by(self, index: str, value: Hashable) -> list[R]:
        """Return the rows that the index has under this value, in any order. KeyError if there is no such index."""
        return [self._entries[key].row for key in self._indexes[index].get(value, ())]

    def revision_of(self, key: Hashable) -> int:
        """Return the revision of the row's last write; 0 if there is no such row."""
        entry = self._entries.get(key)
        return 0 if entry is None else entry.revision

    def observe(self, name: str, *, limit: int | None = None) -> Observer[R]:
        """Register an observer: deletions are kept for it from its first `take()` until it is closed.

        One with a `limit` is closed when it is that many deletions behind: for observers outside of the agent, which
        may stop reading without going away.
        """
        observer = Observer(name, self, limit)
        self._observers.append(observer)
        return observer

    # Status: beside the rows, outside of the feed.

    def status(self, key: Hashable) -> Status:
        """Return the status of the row's present revision. KeyError if there is no such row."""
        entry = self._entries[key]
        status = self._statuses.get(key)
        if status is None or status.revision != entry.revision:
            return Status("pending", "", entry.at_ns, entry.revision)
        return status

    def set_status(self, key: Hashable, revision: int, state: State, error: str = "") -> bool:
        """Record a result for that revision of the row. Return False, and drop it, if the row changed meanwhile."""
        entry = self._entries.get(key)
        if entry is None or entry.revision != revision:
            return False
        old = self._statuses.get(key)
        if old is not None and (old.state, old.error, old.revision) == (state, error, revision):
            return True
        self._statuses[key] = Status(state, error, self._clock.now_ns(), revision)
        self._wake(key)
        return True

    def status_counts(self) -> dict[str, int]:
        """Return how many rows are pending, done and in error; empty where nothing reconciles the table."""
        if not self.reconciled:
            return {}
        counts = Counter(self.status(key).state for key in self._entries)
        return {state: counts[state] for state in ("pending", "done", "error")}

    async def wait_done(self, key: Hashable, timeout_s: float) -> R:
        """Wait until the present revision of the row is done; return the row.

        Raise CiliumpyError if the row is absent or removed, its reconciliation fails, or the time is up.
        """
        what = f"{self.spec.name} {_text(key)}"
        future: asyncio.Future[None] | None = None
        try:
            async with asyncio.timeout(timeout_s):
                while (entry := self._entries.get(key)) is not None:
                    status = self.status(key)
                    if status.state == "done":
                        return entry.row
                    if status.state == "error":
                        raise CiliumpyError(f"{what}: {status.error}")
                    future = asyncio.get_running_loop().create_future()
                    self._waiters.setdefault(key, set()).add(future)
                    await future
        except TimeoutError:
            raise CiliumpyError(f"{what}: not done after {timeout_s:g} s") from None
        finally:
            if future is not None:
                self._forget(key, future)
        raise CiliumpyError(f"{what}: there is no such row (any more)")

    @property
    def leaving(self) -> bool:
        """Whether a row that was deleted is still there where a reconciler carries rows to."""
        return bool(self._leaving)

    def follow_deletions(self) -> None:
        """From now on the reconciler says by `set_gone` how far it is with what is deleted."""
        self._leaving = set()

    def set_gone(self, key: Hashable) -> None:
        """Record that a deleted row is gone there, too."""
        if self._leaving and key in self._leaving:
            self._leaving.discard(key)
            self._wake(key)

    async def wait_gone(self, key: Hashable, timeout_s: float) -> None:
        """Wait until a deleted row is gone there, too. CiliumpyError if it came back, or the time is up."""
        what = f"{self.spec.name} {_text(key)}"
        future: asyncio.Future[None] | None = None
        try:
            async with asyncio.timeout(timeout_s):
                while self._leaving and key in self._leaving:
                    future = asyncio.get_running_loop().create_future()
                    self._waiters.setdefault(key, set()).add(future)
                    await future
        except TimeoutError:
            raise CiliumpyError(f"{what}: not gone after {timeout_s:g} s") from None
        finally:
            if future is not None:
                self._forget(key, future)
        if key in self._entries:
            raise CiliumpyError(f"{what}: it is there again")

    # For the transaction and the observers of this package.

    def _put(self, key: Hashable, row: R, revision: int, at_ns: int) -> None:
        found = [(self._indexes[name], values(row)) for name, values in self.spec.indexes.items()]
        old = self._entries.get(key)
        if old is not None:
            self._unindex(key, old.row)
        self._entries[key] = Entry(row, revision, revision if old is None else old.created, at_ns)
        for index, values_of_row in found:
            for value in values_of_row:
                index.setdefault(value, {})[key] = None
        self._record(key, Change(revision, row, deleted=False))

    def _remove(self, key: Hashable, revision: int) -> R | None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self._unindex(key, entry.row)
        self._record(key, Change(revision, entry.row, deleted=True))
        return entry.row

    def _record(self, key: Hashable, change: Change[R]) -> None:
        self._log.pop(key, None)
        self._log[key] = change

    def _unindex(self, key: Hashable, row: R) -> None:
        for name, values in self.spec.indexes.items():
            index = self._indexes[name]
            for value in values(row):
                keys = index.get(value)
                if keys is not None:
                    keys.pop(key, None)
                    if not keys:
                        del index[value]

    def _restore(self, before: Mapping[Hashable, tuple[Entry[R] | None, Change[R] | None]], revision: int) -> None:
        """Put back what these keys had, order included."""
        for key, (entry, change) in before.items():
            present = self._entries.pop(key, None)
            if present is not None:
                self._unindex(key, present.row)
            self._log.pop(key, None)
            if entry is not None:
                self._put(key, entry.row, entry.revision, entry.at_ns)
                self._entries[key] = entry
            if change is not None:
                self._log[key] = change
        self._entries = dict(sorted(self._entries.items(), key=lambda item: item[1].created))
        self._log = dict(sorted(self._log.items(), key=lambda item: item[1].revision))
        self.revision = revision

    def _publish(self, changed: Mapping[Hashable, Any]) -> None:
        """Tell observers and waiters of a committed transaction."""
        for key in changed:
            change = self._log.get(key)
            if change is not None and change.deleted:
                self._graves.append((change.revision, key))
                self._statuses.pop(key, None)
            if change is not None and self._leaving is not None:
                (self._leaving.add if change.deleted else self._leaving.discard)(key)
            self._wake(key)
        for observer in list(self._observers):
            limit = len(self._graves) if observer.limit is None else observer.limit
            if observer.started and limit < len(self._graves) and self._graves[-limit - 1][0] > observer.seen:
                observer.missed = len(self._changes_since(observer.seen))
                observer.close()
        self._bury()
        for observer in self._observers:
            observer._wake()

    def _bury(self) -> None:
        """Forget the deletions that every observer has seen. One that has not started needs none."""
        if not self._graves:
            return
        seen = min((o.seen for o in self._observers if o.started), default=self.revision)
        while self._graves and self._graves[0][0] <= seen:
            revision, key = self._graves.popleft()
            change = self._log.get(key)
            if change is not None and change.revision == revision:
                del self._log[key]

    def _changes_since(self, revision: int) -> list[Change[R]]:
        changes = []
        for change in reversed(self._log.values()):
            if change.revision <= revision:
                break
            changes.append(change)
        changes.reverse()
        return changes

    def _drop_observer(self, observer: Observer[R]) -> None:
        if observer in self._observers:
            self._observers.remove(observer)
            self._bury()

    def _wake(self, key: Hashable) -> None:
        for future in self._waiters.pop(key, ()):
            if not future.done():
                future.set_result(None)

    def _forget(self, key: Hashable, future: asyncio.Future[None]) -> None:
        waiters = self._waiters.get(key)
        if waiters is not None:
            waiters.discard(future)
            if not waiters:
                del self._waiters[key]


def _text(key: Hashable) -> str:
    return "/".join(str(part) for part in key) if isinstance(key, tuple) else str(key)
