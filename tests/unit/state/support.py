# SPDX-License-Identifier: Apache-2.0
"""A table to try things on, a clock that tests own, and a kernel that fails when told to."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import msgspec

from ciliumpy.state.table import TableSpec


class Row(msgspec.Struct, frozen=True):
    id: int
    value: str = ""
    tags: tuple[str, ...] = ()


ROWS = TableSpec("rows", Row, key=lambda r: r.id, indexes={"value": lambda r: (r.value,), "tag": lambda r: r.tags})
OTHERS = TableSpec("others", Row, key=lambda r: r.id)


class FakeClock:
    """Both clocks stand still until they are told to move."""

    def __init__(self) -> None:
        self.time_ns = 1_000_000_000

    def now_ns(self) -> int:
        return self.time_ns

    def monotonic_ns(self) -> int:
        return self.time_ns

    def advance(self, seconds: float) -> None:
        self.time_ns += int(seconds * 1e9)


class FakeKernel:
    """A target that holds rows in a dict. `refuse` are keys it does not take; `broken` makes every call raise."""

    def __init__(self) -> None:
        self.held: dict[Hashable, Row] = {}
        self.refuse: set[Hashable] = set()
        self.broken: Exception | None = None
        self.calls: list[tuple[str, tuple[Hashable, ...]]] = []

    async def update(self, rows: Sequence[Row]) -> Mapping[Hashable, str]:
        self._called("update", rows)
        errors = {row.id: "no room" for row in rows if row.id in self.refuse}
        self.held |= {row.id: row for row in rows if row.id not in errors}
        return errors

    async def delete(self, rows: Sequence[Row]) -> Mapping[Hashable, str]:
        self._called("delete", rows)
        errors = {row.id: "busy" for row in rows if row.id in self.refuse}
        for row in rows:
            if row.id not in errors:
                self.held.pop(row.id, None)
        return errors

    async def prune(self, rows: Sequence[Row]) -> int:
        self._called("prune", rows)
        wanted = {row.id: row for row in rows if row.id not in self.refuse}
        repairs = sum(self.held.get(key) != wanted.get(key) for key in self.held.keys() | wanted.keys())
        self.held = wanted
        return repairs

    def _called(self, name: str, rows: Sequence[Row]) -> None:
        self.calls.append((name, tuple(row.id for row in rows)))
        if self.broken is not None:
            raise self.broken
