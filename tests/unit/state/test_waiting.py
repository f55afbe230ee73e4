# SPDX-License-Identifier: Apache-2.0
"""Waiting for changes and for results, and the status beside the rows."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.state.database import Database
from ciliumpy.state.observer import wait_any
from ciliumpy.state.table import Table
from tests.unit.state.support import OTHERS, ROWS, FakeClock, Row


@pytest.fixture
def db() -> Database:
    return Database([ROWS, OTHERS], clock=FakeClock())


def put(db: Database, *rows: Row) -> None:
    with db.write() as txn:
        for row in rows:
            txn.upsert(ROWS, row)


async def blocked(task: asyncio.Task) -> bool:
    """Whether the task is still waiting after everything that can run has run."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


async def test_wait_ends_with_a_commit(db: Database) -> None:
    observer = db.table(ROWS).observe("test")
    waiting = asyncio.get_running_loop().create_task(observer.wait())
    assert await blocked(waiting)
    with db.write() as txn:
        txn.upsert(OTHERS, Row(1))
    assert await blocked(waiting)
    put(db, Row(1))
    await waiting
    await observer.wait()  # nothing was taken: at once
    assert [change.row for change in observer.take()] == [Row(1)]


async def test_a_failed_transaction_wakes_nobody(db: Database) -> None:
    observer = db.table(ROWS).observe("test")
    waiting = asyncio.get_running_loop().create_task(observer.wait())
    assert await blocked(waiting)
    with suppress(KeyError), db.write() as txn:
        txn.upsert(ROWS, Row(1))
        raise KeyError
    assert await blocked(waiting)
    waiting.cancel()


async def test_wait_any(db: Database) -> None:
    one, two = db.table(ROWS).observe("one"), db.table(OTHERS).observe("two")
    waiting = asyncio.get_running_loop().create_task(wait_any(one, two))
    assert await blocked(waiting)
    with db.write() as txn:
        txn.upsert(OTHERS, Row(1))
    await waiting
    assert (one.pending, two.pending) == (False, True)
    two.take()
    await wait_any(one, two, timeout_s=0.001)
    assert not one._waiters
    assert not two._waiters


async def test_a_poke_ends_one_wait(db: Database) -> None:
    observer = db.table(ROWS).observe("test")
    observer.poke()
    await observer.wait()
    assert observer.take() == []
    assert not observer.pending


async def test_closing_ends_the_wait_with_an_error(db: Database) -> None:
    observer = db.table(ROWS).observe("test")
    waiting = asyncio.get_running_loop().create_task(observer.wait())
    assert await blocked(waiting)
    observer.close()
    observer.close()
    with pytest.raises(RuntimeError, match="closed"):
        await waiting
    with pytest.raises(RuntimeError, match="closed"):
        observer.take()


def test_status_is_of_the_present_revision(db: Database) -> None:
    table: Table[Row] = db.table(ROWS)
    put(db, Row(1, "a"))
    first = table.revision_of(1)
    assert table.status(1).state == "pending"
    assert table.set_status(1, first, "error", "no room")
    assert (table.status(1).state, table.status(1).error) == ("error", "no room")
    put(db, Row(1, "b"))
    assert table.status(1).state == "pending"
    assert not table.set_status(1, first, "done")
    assert table.status(1).state == "pending"
    assert not table.set_status(2, 1, "done")
    with pytest.raises(KeyError):
        table.status(2)


def test_a_status_is_no_change(db: Database) -> None:
    table = db.table(ROWS)
    put(db, Row(1))
    observer = table.observe("test")
    observer.take()
    table.set_status(1, table.revision_of(1), "done")
    assert not observer.pending
    with db.write() as txn:
        txn.delete(ROWS, 1)
    put(db, Row(1))
    assert table.status(1).state == "pending", "a row that came back is another one"


def test_counts_only_where_somebody_reconciles(db: Database) -> None:
    table = db.table(ROWS)
    put(db, Row(1), Row(2), Row(3))
    assert table.status_counts() == {}
    table.reconciled = True
    table.set_status(1, table.revision_of(1), "done")
    table.set_status(2, table.revision_of(2), "error", "x")
    assert table.status_counts() == {"pending": 1, "done": 1, "error": 1}


async def test_wait_done(db: Database) -> None:
    table = db.table(ROWS)
    put(db, Row(1, "a"))
    waiting = asyncio.get_running_loop().create_task(table.wait_done(1, 5))
    assert await blocked(waiting)
    put(db, Row(1, "b"))
    assert await blocked(waiting)
    table.set_status(1, table.revision_of(1), "done")
    assert await waiting == Row(1, "b")
    assert await table.wait_done(1, 0) == Row(1, "b")
    assert not table._waiters


@pytest.mark.parametrize("how", ["error", "deletion", "time", "absent"])
async def test_wait_done_fails_with_the_reason(db: Database, how: str) -> None:
    table = db.table(ROWS)
    if how != "absent":
        put(db, Row(1))
    waiting = asyncio.get_running_loop().create_task(table.wait_done(1, 0.01 if how == "time" else 5))
    if how != "absent":
        assert await blocked(waiting)
    if how == "error":
        table.set_status(1, table.revision_of(1), "error", "the map is full")
    elif how == "deletion":
        with db.write() as txn:
            txn.delete(ROWS, 1)
    wanted = {"error": "rows 1: the map is full", "time": "rows 1: not done after 0.01 s"}
    with pytest.raises(CiliumpyError) as caught:
        await waiting
    assert caught.value.message == wanted.get(how, "rows 1: there is no such row (any more)")
    assert not table._waiters
