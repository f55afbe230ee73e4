# SPDX-License-Identifier: Apache-2.0
"""Whatever is killed, `lab down` leaves nothing; whoever comes second is told so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from ciliumpy.lab import cgroups
from ciliumpy.lab.machine import cgroup_root

from .lab_support import APPS, COMMAND, LabUnderTest, eventually, leftovers

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]


@pytest.fixture
def lab(request):
    made = LabUnderTest(f"cpt{os.getpid()}{chr(97 + abs(hash(request.node.name)) % 26)}")
    try:
        yield made
    finally:
        made.lab("down", check=False)
    assert leftovers(made.name) == []


def processes(lab):
    return cgroups.pids(cgroup_root() / "ciliumpy/labs" / lab.name)


def kill_all(pids):
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_down_after_everything_was_killed(lab):
    lab.lab("up")
    lab.apply(APPS)
    kill_all(processes(lab))
    lab.lab("down")
    assert leftovers(lab.name) == []
    assert "nothing to do" in lab.lab("down").stderr


def test_down_after_the_run_directory_is_gone(lab):
    lab.lab("up")
    lab.apply(APPS)
    for path in (*lab.path.glob("*.json"), *lab.path.glob("*/agent.json"), lab.path / "controller.pid"):
        path.unlink()
    lab.lab("down")
    assert leftovers(lab.name) == []


def test_up_goes_on_where_another_was_killed(lab):
    command = [*COMMAND, "lab", "up", lab.name]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        while "agent n1: started" not in (line := first.stderr.readline()):
            assert line, "it ended before it was killed"
        first.kill()
    assert Path(f"/run/ciliumpy/labs/.{lab.name}.lock").exists()
    lab.lab("up")
    lab.apply(APPS)
    assert [n["state"] for n in lab.status()["nodes"]] == ["ok", "ok"]


def test_up_and_pods_after_everything_was_killed(lab):
    lab.lab("up")
    lab.apply(APPS)
    kill_all(processes(lab))
    eventually(lambda: not processes(lab))
    lab.lab("up")
    lab.lab("apply", "-f", "-", stdin=APPS)
    assert all(p["phase"] == "Running" for p in lab.pods().values())
    assert lab.exec("guest/visitor", "curl", "-sS", "--max-time", "2", "http://api.shop:8080/").returncode == 0


def test_down_takes_along_the_lock_of_an_up_that_was_killed_at_its_start(lab):
    lock = Path(f"/run/ciliumpy/labs/.{lab.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    assert "nothing to do" in lab.lab("down").stderr
    assert leftovers(lab.name) == []


def test_without_its_controller_nobody_waits_in_vain(lab):
    lab.lab("up")
    kill_all([int((lab.path / "controller.pid").read_text())])
    done = lab.apply(APPS, check=False)
    assert done.returncode == 1
    assert "the controller does not run" in done.stderr
    lab.lab("start")
    lab.apply(APPS)


def test_two_up_at_once(lab):
    command = [*COMMAND, "lab", "up", lab.name]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [(process.communicate(timeout=60)[1], process.returncode) for process in both]
    assert sorted(code for _, code in ends) == [0, 1]
    loser = next(text for text, code in ends if code == 1)
    assert f"lab '{lab.name}' is being changed by `ciliumpy lab up {lab.name}` (pid " in loser
    assert "Traceback" not in loser


def test_pods_wait_for_an_agent_that_is_down(lab):
    lab.lab("up")
    lab.lab("stop", "n2")
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: late}\nspec: {nodeName: n2, containers: [{name: c}]}\n"
    lab.apply(pod, "--no-wait")
    found = eventually(lambda: (p := lab.pods("late").get("late")) and p["message"] and p)
    assert "the agent does not answer" in found["message"]
    lab.lab("start", "n2")
    lab.apply(pod)
    assert lab.pods("late")["late"]["phase"] == "Running"
    lab.lab("stop", "n2")
    lab.lab("delete", "pod", "late")
    assert list((lab.path / "n2/cni-deletes").iterdir())
    lab.lab("start", "n2")
    eventually(lambda: not list((lab.path / "n2/cni-deletes").iterdir()))
    endpoints = ("endpoint", "list", "--lab", lab.name, "--node", "n2", "-o", "jsonpath={.items[*].pod}")
    assert lab.run(*endpoints).stdout.strip() == ""


def test_up_without_a_file_mends_a_lab_that_was_made_from_one(lab, tmp_path):
    file = tmp_path / "lab.yaml"
    file.write_text("nodes:\n  - {name: one, labels: {disk: ssd}}\nagent: {log: {level: debug}}\n")
    lab.lab("up", "-f", str(file))
    kill_all(processes(lab))
    eventually(lambda: not processes(lab))
    lab.lab("up")
    assert [(n["name"], n["state"]) for n in lab.status()["nodes"]] == [("one", "ok")]
    nodes = json.loads(lab.run("node", "list", "--lab", lab.name, "-o", "json").stdout)["items"]
    assert nodes[0]["labels"] == {"disk": "ssd", "kubernetes.io/hostname": "one"}
