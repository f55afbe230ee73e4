# SPDX-License-Identifier: Apache-2.0
"""Labs side by side with the same addresses, and one with many pods."""

from __future__ import annotations

import os
import time

import pytest

from tests.soak import SOAK

from .lab_support import LabUnderTest, leftovers

pytestmark = [pytest.mark.root, pytest.mark.timeout(300 if SOAK else 60)]

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {lab: NAME}}
spec: {nodeName: n2, hostname: web-of-NAME, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {lab: NAME}}
spec: {nodeName: n1, containers: [{name: c}]}
"""
CLOSED = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: closed}
spec: {endpointSelector: {}, ingress: [{}]}
"""
MANY = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: COUNT
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}
"""


@pytest.fixture(scope="module")
def labs():
    made = [LabUnderTest(f"cpttwo{os.getpid()}{which}") for which in "ab"]
    try:
        for lab in made:
            lab.lab("up")
            lab.apply(POD.replace("NAME", lab.name))
        yield made
    finally:
        for lab in made:
            lab.lab("down", check=False)
    assert [left for lab in made for left in leftovers(lab.name)] == []


VERBS = (
    ("lab", "status"),
    ("lab", "exec", "client", "--", "true"),
    ("lab", "run", "--rm", "x", "--", "true"),
    ("lab", "logs", "n1"),
    ("lab", "stop", "n1"),
    ("lab", "delete", "pod", "client"),
    ("lab", "down"),
    ("status",),
    ("endpoint", "list"),
    ("observe",),
    ("bpf", "map", "list"),
    ("statedb", "dump", "pods", "--node", "n1"),
)


def test_a_target_that_is_not_clear_is_refused_and_the_labs_are_named(labs):
    for verb in VERBS:
        done = labs[0].run(*verb, check=False)
        said = " ".join(done.stderr.split())
        assert done.returncode == 2, (verb, said)
        assert all(lab.name in said for lab in labs), (verb, said)
        assert "--lab" in said, (verb, said)
    assert [n["state"] for lab in labs for n in lab.status()["nodes"]] == ["ok"] * 4
    assert all(set(lab.pods()) == {"web", "client"} for lab in labs)


def test_labs_with_the_same_addresses_do_not_meet(labs):
    a, b = labs
    pods = [lab.pods() for lab in labs]
    addresses = [sorted(a for pod in found.values() for a in pod["addresses"]) for found in pods]
    assert addresses[0] == addresses[1], "the same networks, filled in the same order"
    call = ("curl", "-sS", "-g", "--max-time", "2", "http://web:8080/")
    for lab in labs:
        assert lab.exec("client", *call).stdout == f"web-of-{lab.name}\n"
    a.apply(CLOSED)
    assert a.exec("client", *call).returncode == 28
    assert b.exec("client", *call).stdout == f"web-of-{b.name}\n", "the other lab's policy"
    dropped = ("observe", "--verdict", "DROPPED", "-o", "compact", "--lab")
    assert "default/client" in a.run(*dropped, a.name).stdout
    assert b.run(*dropped, b.name).stdout == ""
    a.lab("stop", "n1")
    assert [n["state"] for n in b.status()["nodes"]] == ["ok", "ok"]
    a.lab("down")
    assert leftovers(a.name) == []
    assert b.exec("client", *call).stdout == f"web-of-{b.name}\n", "the other lab has gone"
    assert b.lab("status").stderr == ""


def test_a_lab_of_many_pods():
    count = 200 if SOAK else 30
    lab = LabUnderTest(f"cptmany{os.getpid()}", timeout_s=240)
    try:
        begin = time.monotonic()
        lab.lab("up")
        up = time.monotonic()
        lab.apply(MANY.replace("COUNT", str(count)), "--timeout", "240")
        ready = time.monotonic()
        found = lab.status()
        assert found["errors"] == []
        assert [p["phase"] for p in found["pods"]] == ["Running"] * count
        assert sorted(sum(p["node"] == node for p in found["pods"]) for node in ("n1", "n2")) == [count // 2] * 2
        assert len({address for p in found["pods"] for address in p["addresses"]}) == 2 * count
        first, *_, last = (p["name"] for p in found["pods"])
        answer = lab.exec(first, "curl", "-sS", "--max-time", "3", f"http://{last}:8080/")
        assert answer.stdout == f"{last}\n", answer.stderr
    finally:
        down = time.monotonic()
        lab.lab("down", check=False)
    gone = time.monotonic()
    print(f"{count} pods: up {up - begin:.1f} s, all ready {ready - up:.1f} s, down {gone - down:.1f} s")
    assert leftovers(lab.name) == []
