# SPDX-License-Identifier: Apache-2.0
"""Tables against plain dicts: any history of transactions, some of them failing, seen by observers of any pace."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ciliumpy.state.database import Database
from ciliumpy.state.table import TableSpec
from tests.soak import scaled
from tests.unit.state.support import OTHERS, ROWS, FakeClock, Row

keys = st.integers(0, 5)
rows = st.builds(Row, id=keys, value=st.sampled_from("abc"), tags=st.lists(st.sampled_from("xyz")).map(tuple))
operations = st.lists(st.one_of(rows, keys), max_size=6)


class Follower:
    """Rebuilds the table from what an observer gives, and checks the promises on the way."""

    def __init__(self, db: Database) -> None:
        self.table = db.table(ROWS)
        self.observer = self.table.observe("test")
        self.copy: dict[int, Row] = {}
        self.last = 0

    def take(self) -> None:
        seen = set()
        first = not self.observer.started
        changes = self.observer.take()
        for change in changes:
            assert change.revision > self.last
            self.last = change.revision
            assert change.row.id not in seen, "one change a key and take"
            seen.add(change.row.id)
            if change.deleted:
                assert not first
                self.copy.pop(change.row.id, None)
            else:
                self.copy[change.row.id] = change.row
        assert self.copy == {row.id: row for row in self.table.all()}
        assert self.observer.take() == []
        assert not self.observer.pending


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.db = Database([ROWS, OTHERS], clock=FakeClock())
        self.table = self.db.table(ROWS)
        self.model: dict[int, Row] = {}
        self.followers: list[Follower] = []

    @rule(operations=operations)
    def commit(self, operations: list[Row | int]) -> None:
        with self.db.write() as txn:
            for operation in operations:
                before, revision = self.model.copy(), self.db.revision
                if isinstance(operation, Row):
                    self.model.pop(operation.id, None) if operation.id not in before else None
                    self.model[operation.id] = operation
                    changed = txn.upsert(ROWS, operation)
                    assert changed == (before.get(operation.id) != operation)
                else:
                    removed = txn.delete(ROWS, operation)
                    assert removed == before.get(operation)
                    changed = removed is not None
                    self.model.pop(operation, None)
                assert self.db.revision == revision + changed
                assert txn.all(ROWS) == list(self.model.values())

    @rule(operations=operations)
    def fail(self, operations: list[Row | int]) -> None:
        state = (self.db.revision, self.table.revision, self.table.all(), list(self.table._log.values()))
        pending = [f.observer.pending for f in self.followers]
        with suppress(KeyError), self.db.write() as txn:
            txn.upsert(OTHERS, Row(1))
            for operation in operations:
                if isinstance(operation, Row):
                    txn.upsert(ROWS, operation)
                else:
                    txn.delete(ROWS, operation)
            raise KeyError
        assert state == (self.db.revision, self.table.revision, self.table.all(), list(self.table._log.values()))
        assert pending == [f.observer.pending for f in self.followers]
        assert len(self.db.table(OTHERS)) == 0

    @rule()
    def observe(self) -> None:
        if len(self.followers) < 3:
            self.followers.append(Follower(self.db))

    @rule(n=st.integers(0, 2))
    def take(self, n: int) -> None:
        if n < len(self.followers):
            self.followers[n].take()

    @rule(n=st.integers(0, 2))
    def close(self, n: int) -> None:
        if n < len(self.followers):
            self.followers.pop(n).observer.close()

    @invariant()
    def same_rows(self) -> None:
        assert self.table.all() == list(self.model.values())
        assert len(self.table) == len(self.model)
        for key in range(6):
            assert self.table.get(key) == self.model.get(key)
            assert (self.table.revision_of(key) > 0) == (key in self.model)

    @invariant()
    def same_indexes(self) -> None:
        for value in "abc":
            found = self.table.by("value", value)
            assert sorted(r.id for r in found) == sorted(r.id for r in self.model.values() if r.value == value)
        for tag in "xyz":
            found = self.table.by("tag", tag)
            assert sorted(r.id for r in found) == sorted(r.id for r in self.model.values() if tag in r.tags)
        assert all(self.table._indexes["value"].values()), "no empty sets are kept"

    @invariant()
    def graves_are_kept_as_long_as_needed(self) -> None:
        graves = [change.revision for change in self.table._log.values() if change.deleted]
        seen = [f.observer.seen for f in self.followers if f.observer.started]
        if not seen:
            assert not graves
        else:
            assert all(revision > min(seen) for revision in graves)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=scaled(150), stateful_step_count=30, deadline=None)


def test_an_equal_row_is_no_write() -> None:
    db = Database([ROWS])
    with db.write() as txn:
        assert txn.upsert(ROWS, Row(1, "a"))
    observer = db.table(ROWS).observe("test")
    observer.take()
    with db.write() as txn:
        assert not txn.upsert(ROWS, Row(1, "a"))
    assert db.revision == 1
    assert not observer.pending


def test_revisions_grow_over_all_tables() -> None:
    db = Database([ROWS, OTHERS])
    with db.write() as txn:
        txn.upsert(ROWS, Row(1))
        txn.upsert(OTHERS, Row(1))
    assert (db.table(ROWS).revision, db.table(OTHERS).revision, db.revision) == (1, 2, 2)


def test_an_index_that_raises_undoes_the_transaction() -> None:
    spec = TableSpec("picky", Row, key=lambda r: r.id, indexes={"inverse": lambda r: (1 // len(r.value),)})
    db = Database([spec])
    with db.write() as txn:
        txn.upsert(spec, Row(1, "a"))
    with db.write() as txn:
        txn.upsert(spec, Row(2, "b"))
    with pytest.raises(ZeroDivisionError), db.write() as txn:
        txn.upsert(spec, Row(1, ""))
    assert db.table(spec).all() == [Row(1, "a"), Row(2, "b")]
    assert db.table(spec).by("inverse", 1) in ([Row(1, "a"), Row(2, "b")], [Row(2, "b"), Row(1, "a")])


def test_transactions_do_not_nest_and_end() -> None:
    db = Database([ROWS])
    with db.write() as txn, pytest.raises(RuntimeError, match="do not nest"), db.write():
        pass
    with pytest.raises(RuntimeError, match="over"):
        txn.upsert(ROWS, Row(1))


def test_a_spec_must_be_of_this_database() -> None:
    db = Database([ROWS])
    with pytest.raises(ValueError, match="another spec"):
        db.table(TableSpec("rows", Row, key=lambda r: r.id))
    with pytest.raises(ValueError, match="two tables"):
        Database([ROWS, ROWS])
