# SPDX-License-Identifier: Apache-2.0
"""A kernel that lives in a dictionary: maps with the real layouts, sizes and refusals, and doors that only take notes.

`bpf.maps.Map` passes the same tests (test_kernel.py), so that what holds against this one holds against the kernel.
"""

from __future__ import annotations

import asyncio
import errno
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ciliumpy.bpf import btf as types
from ciliumpy.bpf import programs
from ciliumpy.bpf.btf import Btf
from ciliumpy.bpf.maps import MapError
from ciliumpy.bpf.names import WIDE, WIDTHS
from ciliumpy.bpf.sys import MapType
from ciliumpy.datapath.epochs import bucket_of

OBJECT, WIDE_OBJECT = (Path(programs.__file__).parent / "objects" / f"{width.object}.o" for width in WIDTHS)
ARRAYS = {MapType.ARRAY, MapType.PERCPU_ARRAY}


class FakeMap:
    """One map. Rows are bytes; a full hash refuses a new key as the kernel does."""

    def __init__(self, name: str, kind: int, key: np.dtype[Any], value: np.dtype[Any], max_entries: int) -> None:
        self.name, self.type, self.max_entries = name, kind, max_entries
        self.key_dtype, self.value_dtype = key, value
        self.rows: dict[bytes, bytes] = {}
        self.writes: list[tuple[str, bytes]] = []
        if kind in ARRAYS:
            self.rows = {i.to_bytes(4, "little"): bytes(value.itemsize) for i in range(max_entries)}

    def lookup_bytes(self, key: Any) -> bytes | None:
        return self.rows.get(_bytes(key, self.key_dtype))

    def update(self, key: Any, value: Any, flags: int = 0) -> None:
        key_bytes, value_bytes = _bytes(key, self.key_dtype), _bytes(value, self.value_dtype)
        if len(key_bytes) != self.key_dtype.itemsize or len(value_bytes) != self.value_dtype.itemsize:
            raise MapError(f"wrong size for map {self.name}", errno.EINVAL)
        if key_bytes not in self.rows and len(self.rows) >= self.max_entries:
            number = errno.ENOSPC if self.type == MapType.LPM_TRIE else errno.E2BIG
            raise MapError(f"cannot write to map {self.name}", number)
        self.rows[key_bytes] = value_bytes
        self.writes.append(("update", key_bytes))

    def delete(self, key: Any) -> bool:
        key_bytes = _bytes(key, self.key_dtype)
        if self.type in ARRAYS:
            raise MapError(f"cannot delete from map {self.name}", errno.EINVAL)
        self.writes.append(("delete", key_bytes))
        return self.rows.pop(key_bytes, None) is not None

    def items(self) -> tuple[Any, Any]:
        keys = np.frombuffer(b"".join(self.rows), self.key_dtype)
        return keys, np.frombuffer(b"".join(self.rows.values()), self.value_dtype)

    def update_batch(self, keys: Any, values: Any) -> None:
        for key, value in zip(_rows(keys, self.key_dtype), _rows(values, self.value_dtype), strict=True):
            self.update(key, value)


def _bytes(row: Any, dtype: np.dtype[Any]) -> bytes:
    return row if isinstance(row, bytes) else np.asarray(row, dtype).tobytes()


def _rows(rows: Any, dtype: np.dtype[Any]) -> list[bytes]:
    data = rows if isinstance(rows, bytes) else np.asarray(rows).tobytes()
    return [data[i : i + dtype.itemsize] for i in range(0, len(data), dtype.itemsize)]


class Kernel:
    """All maps of the datapath by name, as `Collection.maps` has them. Without the built object the test is skipped."""

    def __init__(self, sizes: dict[str, int] | None = None) -> None:
        self._sizes = sizes or {}
        self.maps = self._maps(OBJECT)

    def wide_maps(self) -> dict[str, FakeMap]:
        """Those that only the wide object has, empty."""
        return {name: map_ for name, map_ in self._maps(WIDE_OBJECT).items() if name in WIDE.maps}

    def _maps(self, path: Path) -> dict[str, FakeMap]:
        if not path.exists():
            pytest.skip("the BPF objects are not built (make bpf)")
        return {
            name: FakeMap(name, kind, key, value, self._sizes.get(name, size))
            for name, kind, key, value, size in _declared(path)
        }

    def row(self, name: str, key: bytes) -> Any:
        """One value as a numpy record, or None."""
        map_ = self.maps[name]
        raw = map_.lookup_bytes(key)
        return None if raw is None else np.frombuffer(raw, map_.value_dtype)[0]

    def epoch(self) -> int:
        return int.from_bytes(self.maps["cp_epoch_v1"].rows[bytes(4)], "little")

    def slot_epoch(self, slot: int) -> int:
        return int.from_bytes(self.maps["cp_epepoch_v1"].rows[slot.to_bytes(4, "little")], "little")

    def peer_epoch(self, prefix: str) -> int:
        """Of the bucket that a /24, /64 or longer lies in."""
        bucket = bucket_of(prefix)
        assert bucket is not None
        return int.from_bytes(self.maps["cp_ipepoch_v1"].rows[bucket.to_bytes(4, "little")], "little")


@functools.cache
def _declared(path: Path) -> list[tuple[str, int, Any, Any, int]]:
    """The maps that the object declares, but of maps and sockets: (name, type, key dtype, value dtype, entries)."""
    btf = Btf.from_object(path)
    found = []
    for variable in btf.members(btf.find(".maps", (types.DATASEC,))):
        fields = {field.name: field.type for field in btf.members(variable.type)}
        if not fields.keys() >= {"key", "value", "max_entries"}:
            continue
        kind, size = (_number(btf, fields[name]) for name in ("type", "max_entries"))
        key, value = (btf.dtype(_pointed(btf, fields[name])) for name in ("key", "value"))
        found.append((variable.name, kind, key, value, size))
    return found


def _pointed(btf: Btf, type_id: int) -> int:
    return btf.types[btf.strip(type_id)].target


def _number(btf: Btf, type_id: int) -> int:
    """`__uint(name, n)` is a pointer to an array of n integers."""
    return btf.types[btf.strip(_pointed(btf, type_id))].length


async def until(condition: Callable[[], bool], timeout_s: float = 2.0) -> None:
    """Let the other tasks run until it holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is awaited is a state of the fake, which has no event
            await asyncio.sleep(0.001)


class Doors:
    """Where pods' devices are opened; keeps the order of what was asked."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self.pinned: set[str] = set()
        self.refuse = ""

    def prepare_pod_device(self, device: str, ifindex: int) -> int:
        self.log.append(("prepare", device))
        return ifindex + 100

    def attach_pod(self, device: str, ifindex: int) -> None:
        if self.refuse:
            raise OSError(errno.ENODEV, self.refuse)
        self.pinned.add(device)
        self.log.append(("attach", device))

    def open_pod_device(self, ifindex: int) -> None:
        self.log.append(("open", ifindex))

    def detach_pod(self, device: str) -> None:
        self.pinned.discard(device)
        self.log.append(("detach", device))

    def attached_pods(self) -> set[str]:
        return set(self.pinned)
