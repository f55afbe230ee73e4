# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy connectivity test` as users run it: green, in a pipe, two at once, interrupted, with an agent that dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from xml.etree import ElementTree as ET

import pytest

from ciliumpy.lab.machine import cgroup_root

from .lab_support import COMMAND, LabUnderTest, eventually, leftovers

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]
NAMESPACE = re.compile(r"ciliumpy-test-[a-z0-9]{5}(-b)?\b")


def start(lab: LabUnderTest, *arguments: str, **more) -> subprocess.Popen[str]:
    command = [*COMMAND, "connectivity", "test", "--lab", lab.name, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def remains(lab: LabUnderTest) -> list[str]:
    """Return what is left of runs: objects, pods, cgroups, actors."""
    found = [str(path) for path in (lab.path / "store").rglob("*") if "ciliumpy-test" in str(path)]
    found += [p["name"] for p in lab.status()["pods"] if p["namespace"].startswith("ciliumpy-test")]
    found += [str(p) for p in (cgroup_root() / "ciliumpy/labs" / lab.name).glob("**/actor-*")]
    for line in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines():
        if "ciliumpy.lab.inside" in line and f"labs/{lab.name}/" in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """With all that a test may need."""
    file = tmp_path_factory.mktemp("whole") / "lab.yaml"
    file.write_text("agent: {policy: {hostFirewall: true, clusterNetworkPolicy: true}}\n")
    made = LabUnderTest(f"cptc{os.getpid()}")
    try:
        made.lab("up", "-f", str(file))
        yield made
    finally:
        made.lab("down", check=False)
    assert leftovers(made.name) == []


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One node, IPv4 only."""
    file = tmp_path_factory.mktemp("small") / "lab.yaml"
    file.write_text("nodes: [n1]\nagent: {network: {ipv6: false}}\n")
    made = LabUnderTest(f"cpts{os.getpid()}")
    try:
        made.lab("up", "-f", str(file))
        yield made
    finally:
        made.lab("down", check=False)
    assert leftovers(made.name) == []


def test_all_is_green_and_two_runs_do_not_meet(lab, tmp_path):
    junit = tmp_path / "junit.xml"
    with start(lab, "--junit-file", str(junit)) as whole:
        with start(lab, "--test", "^echo-ingress$", "--test", "^live-connections$", "-o", "json") as beside:
            report, progress = beside.communicate(timeout=200)
        said, errors = whole.communicate(timeout=200)
    assert (whole.returncode, errors) == (0, ""), said
    assert beside.returncode == 0, progress
    last = said.splitlines()[-1]
    assert re.fullmatch(
        r"✅ \[ciliumpy-test-\w{5}\] All (\d+) tests \((\d+) actions\) successful, 0 tests skipped, "
        r"0 scenarios skipped\.",
        last,
    )
    tests = re.findall(r"^\[=\] \[ciliumpy-test-\w{5}\] Test \[([-\w]+)\] \[\d+/\d+\]$", said, re.MULTILINE)
    assert len(re.findall(r"^\.+$", said, re.MULTILINE)) == len(tests) > 20
    suite = ET.parse(junit).getroot().find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == (str(len(tests)), "0", "0")
    assert [case.get("name") for case in suite.iter("testcase")] == tests
    found = json.loads(report)
    assert (found["kind"], found["successful"], found["errors"]) == ("ConnectivityReport", True, [])
    assert {i["test"] for i in found["items"] if i["state"] == "successful"} == {"echo-ingress", "live-connections"}
    assert found["namespace"] not in said
    assert remains(lab) == []


def test_one_node_without_ipv6_skips_what_needs_more_by_name(small):
    done = small.run("connectivity", "test", "--lab", small.name, "--test", "^(no-policies|echo-ingress|remote)", "-v")
    assert "Feature second-node is disabled: there is one node" in done.stdout
    assert "Feature host-firewall is disabled: policy.hostFirewall is off" in done.stdout
    assert "Feature cluster-network-policy is disabled: policy.clusterNetworkPolicy is off" in done.stdout
    assert "Feature ipv6 is disabled: pods have no IPv6 address" in done.stdout
    assert "Skipping Scenario [no-policies/pod-to-pod-across] (Feature second-node is disabled)" in done.stdout
    skip = r"Skipping test \[remote-node-entity-egress\] \[\d+/\d+\] \(Feature second-node is disabled\)"
    assert re.search(skip, done.stdout)
    assert re.search(r"Skipping test \[live-connections\] \[\d+/\d+\] \(skipped by user\)", done.stdout)
    assert "-ipv6" in done.stdout
    assert all("(Feature ipv6 is disabled)" in line for line in done.stdout.splitlines() if "-ipv6" in line)
    assert re.search(r"\d+ scenarios skipped, \d+ actions skipped\.$", done.stdout.strip())
    assert remains(small) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_interrupts_it_finds_nothing_left(lab, number):
    with start(lab, "--test", "^live-connections$") as run:
        for line in run.stdout:
            if "Test [live-connections]" in line:
                break
        assert remains(lab) != [], "it is looked for in the right places"
        run.send_signal(number)
        said, errors = run.communicate(timeout=60)
    assert (run.returncode, errors) == (128 + number, "")
    assert re.search(r"interrupted, cleaning up\.\.\.\n$", said), "actions that are cut off are no failures"
    assert remains(lab) == []


def test_interrupted_while_it_is_set_up(lab):
    with start(lab, "--test", "^echo-ingress$") as run:
        assert "Creating namespaces" in run.stdout.readline()
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=60)
    assert run.returncode == 130
    assert remains(lab) == []


def test_interrupted_before_anything_is_made(tmp_path):
    """While it looks at the lab: the interpreter's own message is nobody's business."""
    program = (
        "import os, signal, sys\n"
        "from ciliumpy.cli.__main__ import main\n"
        "from ciliumpy.lab.cluster import LabCluster\n"
        "LabCluster.__init__ = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "from ciliumpy.lab import place\n"
        "place.only_lab = lambda name: name\n"
        "sys.exit(main(['connectivity', 'test', '--lab', 'x']))\n"
    )
    done = subprocess.run([*COMMAND[:-2], "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_an_agent_that_dies_ends_the_run_with_its_name(small):
    pid = small.status()["nodes"][0]["pid"]
    with start(small, "--test", "^policy-comes-and-goes$", "--test", "^live") as run:
        for line in run.stdout:
            if "Test [live-connections]" in line:
                break
        os.kill(pid, signal.SIGKILL)
        said, errors = run.communicate(timeout=120)
    assert run.returncode == 1, said + errors
    assert "node n1" in said
    assert "Traceback" not in said + errors
    refused = small.run("connectivity", "test", "--lab", small.name, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Error: the agent of node n1 does not run\nhint: ")
    small.lab("start")
    eventually(lambda: remains(small) == [])


def test_what_is_asked_wrongly_is_said_before_anything_is_made(lab, tmp_path):
    for arguments, code, message in (
        (("--test", "no-such-test"), 2, "no test is so named"),
        (("--test", "("), 2, "is no regular expression"),
        (("--lab", "no-such-lab"), 2, "there is no lab 'no-such-lab'"),
        (("--junit-file", str(tmp_path / "missing" / "x.xml")), 2, "there is no directory"),
        (("--junit-file", str(tmp_path)), 2, "is a directory"),
        (("-o", "yaml"), 2, "there is no output format 'yaml' here"),
    ):
        done = lab.run("connectivity", "test", *("--lab", lab.name, *arguments), check=False)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert message in done.stderr
    assert remains(lab) == []


def test_it_ends_in_time(lab, tmp_path):
    junit = ("--junit-file", str(tmp_path / "junit.xml"))
    done = lab.run("connectivity", "test", "--lab", lab.name, "--timeout", "2", *junit, check=False)
    assert done.returncode == 1
    assert "it takes longer than 2 s (--timeout)" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("broken off")
    last = list(ET.parse(junit[1]).getroot().iter("testcase"))[-2]
    assert last.find("error") is not None, "that which was not finished is not well"
    assert remains(lab) == []
