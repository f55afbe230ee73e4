# SPDX-License-Identifier: Apache-2.0
"""Carries selector vectors into the kernel: which selectors an identity meets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.datapath import encode
from ciliumpy.datapath.kernel import KernelMaps, dump, run_sized, write_all

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from ciliumpy.datapath.epochs import Epochs
    from ciliumpy.tables.enforcement import SelectorVector


class VectorTarget:
    """`cp_vector_v1`. A vector that replaces another may change decisions that are cached, a first one does not."""

    def __init__(self, maps: KernelMaps, epochs: Epochs) -> None:
        self._map = maps["cp_vector_v1"]
        self._epochs = epochs

    async def update(self, rows: Sequence[SelectorVector]) -> Mapping[Hashable, str]:
        return await run_sized(len(rows), self._write, rows)

    async def delete(self, rows: Sequence[SelectorVector]) -> Mapping[Hashable, str]:
        await run_sized(len(rows), self._delete, [encode.u32(row.identity) for row in rows])
        return {}

    async def prune(self, rows: Sequence[SelectorVector]) -> int:
        return await run_sized(len(rows), self._repair, rows)

    def _write(self, rows: Sequence[SelectorVector]) -> dict[Hashable, str]:
        wanted = self._values(rows)
        replaces = any(self._map.lookup_bytes(key) not in {None, value} for key, value in wanted.items())
        errors = write_all(self._map, wanted)
        if replaces:
            self._epochs.bump_global()
        return {int.from_bytes(key, "little"): text for key, text in errors.items()}

    def _delete(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            self._map.delete(key)
        self._epochs.bump_global()

    def _repair(self, rows: Sequence[SelectorVector]) -> int:
        present, wanted = dump(self._map), self._values(rows)
        wrong = {key: value for key, value in wanted.items() if present.get(key) != value}
        extra = [key for key in present if key not in wanted]
        write_all(self._map, wrong)
        for key in extra:
            self._map.delete(key)
        if wrong or extra:
            self._epochs.bump_global()
        return len(wrong) + len(extra)

    def _values(self, rows: Sequence[SelectorVector]) -> dict[bytes, bytes]:
        return {encode.u32(row.identity): encode.vector_value(self._map, row.words) for row in rows}
