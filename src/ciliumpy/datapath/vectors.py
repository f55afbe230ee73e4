# SPDX-License-Identifier: Apache-2.0
"""Carries selector vectors into the kernel: which selectors an identity meets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ciliumpy.bpf.names import WIDTHS
from ciliumpy.datapath import encode
from ciliumpy.datapath.kernel import KernelMap, KernelMaps, copy_widened, dump, run_sized, write_all

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from ciliumpy.datapath.epochs import Epochs
    from ciliumpy.tables.enforcement import SelectorVector


class VectorTarget:
    """`cp_vector_v1`, or `cp_vector4k_v1`; both while programs of both widths run (width.py).

    A vector that replaces another may change decisions that are cached, a first one does not.
    """

    def __init__(self, maps: KernelMaps, epochs: Epochs) -> None:
        self._maps = [maps[width.vectors] for width in WIDTHS if width.vectors in maps]
        self._epochs = epochs
        self._lock = asyncio.Lock()

    @property
    def names(self) -> list[str]:
        """The maps that rows go to."""
        return [map_.name for map_ in self._maps]

    def holds(self, identity: int) -> bool:
        """Tell whether the kernel has any vector of the identity; without one it meets every deny, and no other."""
        return any(map_.lookup_bytes(encode.u32(identity)) is not None for map_ in self._maps)

    async def add(self, wide: KernelMap) -> None:
        """Write to this map too from now on; first it gets all that is there. CiliumpyError: it does not take it."""
        async with self._lock:
            if wide not in self._maps:
                await asyncio.to_thread(copy_widened, self._maps[0], wide)
                self._maps.append(wide)

    async def drop(self, name: str) -> None:
        """Write to that map no longer."""
        async with self._lock:
            self._maps = [map_ for map_ in self._maps if map_.name != name]

    def highest(self, scope: int) -> int:
        """Return the highest identity of a scope that the kernel has; 0 if it has none."""
        present = (int.from_bytes(key, "little") for map_ in self._maps for key in dump(map_))
        return max((identity for identity in present if identity >> 24 == scope), default=0)

    async def update(self, rows: Sequence[SelectorVector]) -> Mapping[Hashable, str]:
        async with self._lock:
            return await run_sized(len(rows), self._write, rows)

    async def delete(self, rows: Sequence[SelectorVector]) -> Mapping[Hashable, str]:
        async with self._lock:
            await run_sized(len(rows), self._delete, [encode.u32(row.identity) for row in rows])
        return {}

    async def prune(self, rows: Sequence[SelectorVector]) -> int:
        async with self._lock:
            return await run_sized(len(rows), self._repair, rows)

    def _write(self, rows: Sequence[SelectorVector]) -> dict[Hashable, str]:
        errors: dict[bytes, str] = {}
        replaces = False
        for map_ in self._maps:
            wanted = _values(map_, rows)
            replaces |= any(map_.lookup_bytes(key) not in {None, value} for key, value in wanted.items())
            errors |= write_all(map_, wanted)
        if replaces:
            self._epochs.bump_global()
        return {int.from_bytes(key, "little"): text for key, text in errors.items()}

    def _delete(self, keys: Sequence[bytes]) -> None:
        for map_ in self._maps:
            for key in keys:
                map_.delete(key)
        self._epochs.bump_global()

    def _repair(self, rows: Sequence[SelectorVector]) -> int:
        repairs = 0
        for map_ in self._maps:
            present, wanted = dump(map_), _values(map_, rows)
            wrong = {key: value for key, value in wanted.items() if present.get(key) != value}
            extra = [key for key in present if key not in wanted]
            write_all(map_, wrong)
            for key in extra:
                map_.delete(key)
            repairs += len(wrong) + len(extra)
        if repairs:
            self._epochs.bump_global()
        return repairs


def _values(map_: KernelMap, rows: Sequence[SelectorVector]) -> dict[bytes, bytes]:
    return {encode.u32(row.identity): encode.vector_value(map_, row.words) for row in rows}
