# SPDX-License-Identifier: Apache-2.0
"""The database: all tables of a process, one revision counter, and transactions over them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from ciliumpy.kit.clock import Clock, SystemClock
from ciliumpy.state.observer import Change
from ciliumpy.state.table import Entry, Table, TableSpec

if TYPE_CHECKING:
    from types import TracebackType

R = TypeVar("R")
Before = dict[Hashable, tuple[Entry[Any] | None, Change[Any] | None]]


class Database:
    """The tables, by name and by spec. Owned by one event loop."""

    def __init__(self, specs: Iterable[TableSpec[Any]], *, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.revision = 0
        tables: dict[str, Table[Any]] = {}
        for spec in specs:
            if spec.name in tables:
                raise ValueError(f"two tables are called {spec.name}")
            tables[spec.name] = Table(spec, self.clock)
        self.tables: Mapping[str, Table[Any]] = tables
        self._open = False

    def table(self, spec: TableSpec[R]) -> Table[R]:
        table = self.tables[spec.name]
        if table.spec is not spec:
            raise ValueError(f"table {spec.name} was made from another spec")
        return cast("Table[R]", table)

    def write(self) -> WriteTransaction:
        """Begin a transaction: `with db.write() as txn:`. Never await inside."""
        return WriteTransaction(self)


class WriteTransaction:
    """Writes that take effect together when the block ends, or not at all if it raises."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._before: dict[str, Before] = {}
        self._revisions: dict[str, int] = {}
        self._start = 0
        self._at_ns = 0

    def __enter__(self) -> Self:
        if self._database._open:
            raise RuntimeError("a transaction is open already: they do not nest and never await")
        self._database._open = True
        self._start = self._database.revision
        self._at_ns = self._database.clock.now_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database._open = False
        touched = [(self._database.tables[name], before) for name, before in self._before.items()]
        if kind is None:
            for table, before in touched:
                table._publish(before)
        else:
            for table, before in touched:
                table._restore(before, self._revisions[table.spec.name])
            self._database.revision = self._start

    def upsert(self, spec: TableSpec[R], row: R) -> bool:
        """Write a row. Return False, and leave no trace, if an equal one is there."""
        table = self._table(spec)
        key = spec.key(row)
        if table.get(key) == row:
            return False
        revision = self._next(table, key)
        table._put(key, row, revision, self._at_ns)
        return True

    def delete(self, spec: TableSpec[R], key: Hashable) -> R | None:
        """Remove the row with that key and return it; None if there is none."""
        table = self._table(spec)
        if key not in table:
            return None
        revision = self._next(table, key)
        return table._remove(key, revision)

    def get(self, spec: TableSpec[R], key: Hashable) -> R | None:
        """Return the row as this transaction sees it, its own writes included."""
        return self._table(spec).get(key)

    def by(self, spec: TableSpec[R], index: str, value: Hashable) -> list[R]:
        """Return the rows under that value of the index, this transaction's own writes included."""
        return self._table(spec).by(index, value)

    def all(self, spec: TableSpec[R]) -> list[R]:
        """Return all rows, this transaction's own writes included."""
        return self._table(spec).all()

    def _table(self, spec: TableSpec[R]) -> Table[R]:
        if not self._database._open:
            raise RuntimeError("the transaction is over, or was never begun by `with`")
        return self._database.table(spec)

    def _next(self, table: Table[Any], key: Hashable) -> int:
        """Remember what the key had, for an undo, and give the next revision."""
        name = table.spec.name
        before = self._before.get(name)
        if before is None:
            before = self._before[name] = {}
            self._revisions[name] = table.revision
        if key not in before:
            before[key] = (table._entries.get(key), table._log.get(key))
        self._database.revision += 1
        table.revision = self._database.revision
        return table.revision
