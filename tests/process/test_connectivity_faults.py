# SPDX-License-Identifier: Apache-2.0
"""The connectivity test goes red where the datapath is wrong, at the step that names it, and stays green beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from ciliumpy.bpf import build

from .fault_objects import FAULTS, Change, Fault, compile_fault
from .lab_support import LabUnderTest, leftovers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]
QUICK = ("--request-timeout", "2", "-o", "json")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A lab whose agents load what lies in `objects`, from their next start on."""
    try:
        build.need_tools()
    except build.MissingToolError as error:
        pytest.skip(f"objects with faults cannot be built: {error}")
    folder = tmp_path_factory.mktemp("lab")
    objects = folder / "objects"
    shutil.copytree(build.OBJECTS, objects)
    (folder / "lab.yaml").write_text(
        f"agent: {{paths: {{objects: {objects}}}, policy: {{clusterNetworkPolicy: true}}}}\n"
    )
    made = LabUnderTest(f"cptf{os.getpid()}")
    made.objects = objects
    try:
        made.lab("up", "-f", str(folder / "lab.yaml"))
        yield made
    finally:
        made.lab("down", check=False)
    assert leftovers(made.name) == []


def use(lab: LabUnderTest, objects: Path) -> None:
    """Start the agents anew with these objects."""
    for path in objects.glob("*.o"):
        shutil.copy(path, lab.objects / path.name)
    lab.lab("stop")
    lab.lab("start")


def run(lab: LabUnderTest, tests: tuple[str, ...]) -> tuple[int, dict]:
    chosen = [word for test in tests for word in ("--test", test)]
    done = lab.run("connectivity", "test", "--lab", lab.name, *QUICK, *chosen, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def failures(report: dict) -> dict[str, str]:
    return {f["action"]: "; ".join(f["faults"]) for item in report["items"] for f in item["failures"]}


def test_without_a_fault_it_is_green(lab):
    code, report = run(lab, tuple({test: None for fault in FAULTS for test in fault.tests}))
    assert (code, failures(report), report["brokenOff"]) == (0, {}, "")
    assert sum(item["actions"] for item in report["items"]) > 100


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_turns_it_red_and_is_named(lab, tmp_path, fault: Fault):
    use(lab, compile_fault(fault.changes, tmp_path))

    code, report = run(lab, fault.tests)

    found = failures(report)
    assert (code, bool(found), report["brokenOff"]) == (1, True, ""), report
    for action, said in found.items():
        assert re.fullmatch(fault.red, action), (action, said)
        assert re.search(fault.says, said), (action, said)
    states = {item["test"]: item["state"] for item in report["items"]}
    assert "successful" in states.values() or any(
        0 < len(item["failures"]) < item["actions"] for item in report["items"]
    ), "what the fault does not touch stays green"


def test_a_fault_that_no_longer_applies_is_found(tmp_path):
    with pytest.raises(AssertionError, match="has 0 times"):
        compile_fault((Change("policy.h", "no such text", ""),), tmp_path)
