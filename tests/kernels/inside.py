# SPDX-License-Identifier: Apache-2.0
"""What a guest runs: loads every object, then the packet tests and the same-node test.

`inside.py FOLDER`: where the objects lie that only tests have. The first line printed is {object: {program: [walked,
size]}} in JSON, in instructions; the rest is pytest's.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from ciliumpy.bpf import build, programs

TESTS = Path(__file__).parents[1]
# Long under emulation and not about the kernel: the races need one family, random lives and garbage run outside.
SHORT = "not (test_races and ipv6) and not test_equivalence and not test_garbage"


def main() -> int:
    prebuilt = Path(sys.argv[1])
    loaded = {}
    for path in sorted(build.OBJECTS.glob("*.o")):
        with programs.load_object(path) as one:
            loaded[path.name] = {name: [each.instructions, each.size] for name, each in one.programs.items()}
    sys.stdout.write(json.dumps(loaded) + "\n")
    sys.stdout.flush()

    build.build = list  # the host has built them
    build.compile_object = lambda source, target, **_: shutil.copy(prebuilt / target.name, target)
    options = ["-q", "-p", "no:cacheprovider", "--timeout=0", "--durations=5", "--color=no", "-k", SHORT]
    return int(pytest.main([*options, str(TESTS / "bpf"), str(TESTS / "kernels/test_same_node.py")]))


if __name__ == "__main__":
    sys.exit(main())
