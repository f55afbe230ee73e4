# SPDX-License-Identifier: Apache-2.0
"""Any table as JSON, without knowing it: field names in camelCase, bytes in hexadecimal."""

from __future__ import annotations

import asyncio
import json
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from ciliumpy.state.observer import Change, Observer
    from ciliumpy.state.table import Table

SLICE_S = 0.0025  # of encoding, before other jobs have their turn
T = TypeVar("T")
S = TypeVar("S")

MOST_BEHIND = 10_000  # deletions that are kept for a watcher who does not read


def summary(table: Table[Any]) -> dict[str, Any]:
    """Return a table's name, size and revision, and how many rows are pending, done or in error if it is reconciled."""
    return {
        "name": table.spec.name,
        "rows": len(table),
        "revision": table.revision,
        "indexes": sorted(table.spec.indexes),
        "status": table.status_counts(),
    }


def dump(table: Table[Any], row: Any) -> dict[str, Any]:
    """Return a row with its revision, and its status if the table is reconciled."""
    key = table.spec.key(row)
    item: dict[str, Any] = {"revision": table.revision_of(key)}
    if table.reconciled and key in table:
        status = table.status(key)
        item["status"] = {"state": status.state, "error": status.error}
    return item | {"row": plain(msgspec.to_builtins(row, builtin_types=(bytes,)))}


async def watch(table: Table[Any]) -> AsyncIterator[bytes]:
    """Yield lines of JSON: {"rows", "revision", "missed"}, so many rows, then changes as they come, for ever.

    Of a row that changes faster than it is read only the last change is told. A reader who is too many deletions behind
    gets another first line, with how many changes it `missed`, and all rows again.
    """
    missed = 0
    while True:
        observer = table.observe("admin-watch", limit=MOST_BEHIND)
        try:
            rows = observer.take()
            yield _line({"rows": len(rows), "revision": table.revision, "missed": missed})
            async for part in _lines(rows, initial=True):
                yield part
            while not observer.closed:
                if observer.pending:
                    async for part in _lines(observer.take(), initial=False):
                        yield part
                else:
                    await _news(observer)
            missed = observer.missed
        finally:
            observer.close()


async def _news(observer: Observer[Any]) -> None:
    """Wait until there is something to take, or the table has given the observer up."""
    try:
        await observer.wait()
    except RuntimeError:
        if not observer.closed:
            raise


async def _lines(changes: Sequence[Change[Any]], *, initial: bool) -> AsyncIterator[bytes]:
    def line(change: Change[Any]) -> bytes:
        row = plain(msgspec.to_builtins(change.row, builtin_types=(bytes,)))
        return _line({"revision": change.revision, "deleted": change.deleted, "initial": initial, "row": row})

    async for part in in_slices(changes, line):
        yield b"".join(part)


async def in_slices(rows: Sequence[T], convert: Callable[[T], S]) -> AsyncIterator[list[S]]:
    """Convert slice by slice: rows are of any size, and some thousand in one go would hold up the agent."""
    part: list[S] = []
    began = time.monotonic()
    for row in rows:
        part.append(convert(row))
        if time.monotonic() - began > SLICE_S:
            yield part
            await asyncio.sleep(0)
            part, began = [], time.monotonic()
    if part:
        yield part


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {camel(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


@lru_cache(maxsize=4096)
def camel(name: str) -> str:
    return re.sub(r"_(.)", lambda match: match[1].upper(), name)
