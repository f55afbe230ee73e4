# SPDX-License-Identifier: Apache-2.0
"""What a guest runs: the objects of all compilers, packet tests, traffic on one node and between two.

`inside.py FOLDER`: where the objects lie that the host has compiled. Lines that begin with "@" are results in JSON; the
rest is pytest's.

Python is 9 to 50 times slower in here, and the verifier as well. So of the packet tests those run that are content with
one load of the datapath or of one test object, and that are about what a kernel or a compiler may do otherwise.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from ciliumpy.bpf import build, programs
from tests.bpf.conftest import TESTING

TESTS = Path(__file__).parents[1]
FILES = ("compilers", "fragments", "frames", "guards", "icmp", "overlay", "paths", "policy", "wire")


class Guest:
    """A plugin: chooses the tests, prints results as they come."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if self._wanted(item)]

    def _wanted(self, item: pytest.Item) -> bool:
        # Who makes nodes by itself wants constants or sizes of its own, and with them another load.
        takes = getattr(item, "fixturenames", ())
        argued = item._fixtureinfo.argnames
        params = item.callspec.params if hasattr(item, "callspec") else {}
        if "compiler" in params and (params["name"] == "datapath_wide" or "compiled" not in takes):
            # Wide, or with a constant of its own: that of the oldest compiler, which verifiers walk longest.
            oldest = params["compiler"] == min(build.installed_clangs())
            return oldest and (params["name"] == "datapath" or "compiled" in takes)
        return "/kernels/" in item.nodeid or "compiled" in takes or "make_node" not in argued

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties if report.when == "call" else ():
            sys.stdout.write(f"\n@ {json.dumps({name: value})}\n")


def main() -> int:
    prebuilt = Path(sys.argv[1])
    os.environ["CILIUMPY_GUEST"] = "1"
    build.build = list  # the host has built them
    build.compile_object = lambda source, target, **_: shutil.copy(prebuilt / target.name, target)
    # What is only loaded: everything that no test below takes.
    for source in (build.OBJECTS / "closed.o", prebuilt / "faults_test.o"):
        programs.load_object(source).close()
    sys.stdout.write(f"@ {json.dumps({'loaded': sorted(one.name for one in TESTING.glob('*.c'))})}\n")
    files = [str(TESTS / f"bpf/test_{name}.py") for name in FILES]
    options = ["-q", "-p", "no:cacheprovider", "--timeout=0", "--durations=8", "--color=no", "-rs"]
    return int(pytest.main([*options, *files, str(TESTS / "kernels/test_traffic.py")], [Guest()]))


if __name__ == "__main__":
    sys.exit(main())
