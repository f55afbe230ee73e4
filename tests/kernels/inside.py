# SPDX-License-Identifier: Apache-2.0
"""What a guest runs: loads every object, then the packet tests and the same-node test, each object verified only once.

`inside.py FOLDER`: where the objects lie that only tests have. The first line printed is {object: {program: [walked,
size]}} in JSON, in instructions; the rest is pytest's.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ciliumpy.bpf import build, programs
from ciliumpy.bpf.sys import MAP_OF_MAPS_TYPES, MapType

if TYPE_CHECKING:
    from ciliumpy.bpf.maps import Map
    from ciliumpy.bpf.programs import Collection

TESTS = Path(__file__).parents[1]
RACES_ONCE = "not (test_races and ipv6)"
ARRAYS = {MapType.ARRAY, MapType.PERCPU_ARRAY}


class Pool:
    """Stands in for `load_object`: what a test closes is emptied and given to the next that wants the same.

    Verifying the datapath takes seconds under emulation, and is not what the packet tests are about.
    """

    def __init__(self) -> None:
        self._free: dict[str, list[Collection]] = {}

    def load_object(self, path: Path, **options: Any) -> Collection:
        wanted = f"{path.name} {options}"
        free = self._free.setdefault(wanted, [])
        if free:
            return free.pop()
        made = programs.load_object(path, **options)
        made.close = lambda: self._take_back(made, free)  # type: ignore[method-assign]
        return made

    def _take_back(self, one: Collection, free: list[Collection]) -> None:
        for of in one.maps.values():
            if not of.name.endswith(".rodata") and of.type not in MAP_OF_MAPS_TYPES:
                _empty(of)
        free.append(one)


def _empty(of: Map) -> None:
    keys, values = of.items()
    if of.type in ARRAYS:
        of.update_batch(keys, np.zeros_like(values))
    elif len(keys):
        of.delete_batch(keys)


def main() -> int:
    prebuilt = Path(sys.argv[1])
    loaded = {}
    for path in sorted(build.OBJECTS.glob("*.o")):
        with programs.load_object(path) as one:
            loaded[path.name] = {name: [each.instructions, each.size] for name, each in one.programs.items()}
    sys.stdout.write(json.dumps(loaded) + "\n")
    sys.stdout.flush()

    from tests.bpf import node

    node.load_object = Pool().load_object
    build.build = list  # the host has built them
    build.compile_object = lambda source, target, **_: shutil.copy(prebuilt / target.name, target)
    # The races take half a minute here and do not depend on the family: once is enough.
    options = ["-q", "-p", "no:cacheprovider", "--timeout=0", "--durations=5", "--color=no", "-k", RACES_ONCE]
    return int(pytest.main([*options, str(TESTS / "bpf"), str(TESTS / "kernels/test_same_node.py")]))


if __name__ == "__main__":
    sys.exit(main())
