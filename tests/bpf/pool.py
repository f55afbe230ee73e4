# SPDX-License-Identifier: Apache-2.0
"""Loaded objects used again: what a test gives back is emptied, and is as new for the next that wants the same.

Verifying the datapath takes longer than most tests, and is not what they are about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ciliumpy.bpf.programs import load_object
from ciliumpy.bpf.ring import RingGroup
from ciliumpy.bpf.sys import MAP_OF_MAPS_TYPES, MapType

if TYPE_CHECKING:
    from pathlib import Path

    from ciliumpy.bpf.maps import Map
    from ciliumpy.bpf.programs import Collection

ARRAYS = {MapType.ARRAY, MapType.PERCPU_ARRAY}


class Pool:
    """Owns every object that it ever loaded; `close()`."""

    def __init__(self) -> None:
        self._all: list[Collection] = []
        self._free: dict[str, list[Collection]] = {}

    def take(self, path: Path, **options: Any) -> Collection:
        free = self._free.setdefault(f"{path} {options}", [])
        if free:
            return free.pop()
        self._all.append(load_object(path, **options))
        return self._all[-1]

    def give_back(self, one: Collection, path: Path, **options: Any) -> None:
        with RingGroup(one.maps["cp_events_v1"], one.btf.dtype("event")) as rings:
            rings.consume()
            for ring in rings.rings:
                ring.release(ring.position, {})  # whoever has it next begins to count anew, as its numbers do
        for of in one.maps.values():
            if not of.name.endswith(".rodata") and of.type not in {*MAP_OF_MAPS_TYPES, MapType.SK_STORAGE}:
                _empty(of)
        self._free[f"{path} {options}"].append(one)

    def close(self) -> None:
        for one in self._all:
            one.close()


def _empty(of: Map) -> None:
    keys, values = of.items()
    if of.type in ARRAYS:
        of.update_batch(keys, np.zeros_like(values))
    elif len(keys):
        of.delete_batch(keys)
