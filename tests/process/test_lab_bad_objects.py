# SPDX-License-Identifier: Apache-2.0
"""What somebody dropped into a lab's store and nobody can take: the lab goes on, says so, and takes what comes next."""

from __future__ import annotations

import json
import os

import pytest

from .lab_support import APPS, LabUnderTest, eventually, leftovers

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "visitor-bad"}, "spec": {"containers": [{"name": "c"}]}}
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bad"}, "spec": {"replicas": -1}}
NODE = {"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": {"name": "n1"}, "spec": {"ipam": "all"}}


@pytest.fixture(scope="module")
def lab():
    made = LabUnderTest(f"cpt{os.getpid()}bad")
    try:
        made.lab("up")
        made.apply(APPS)
        yield made
    finally:
        made.lab("down", check=False)
    assert leftovers(made.name) == []


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({**POD, "metadata": {"name": "bad", "labels": ["a"]}}, "metadata.labels"),
        ({**POD, "metadata": {"name": "bad", "ownerReferences": ["a"]}}, "metadata.ownerReferences[0]"),
        (DEPLOYMENT, "spec.replicas"),
        (NODE, "spec.ipam"),
    ],
)
def test_a_bad_object_is_told_of_and_stops_nothing(lab, bad, field):
    file = lab.path / "store/bad.yaml"
    file.write_text(json.dumps(bad))
    try:
        assert eventually(lambda: any(f"bad.yaml:1: {field}: " in e for e in lab.status()["errors"]))
        late = "apiVersion: v1\nkind: Pod\nmetadata: {name: late}\nspec: {containers: [{name: c}]}\n"
        lab.apply(late)
        assert lab.pods("late")["late"]["phase"] == "Running"
        lab.lab("delete", "pod", "late")
    finally:
        file.unlink()
    assert eventually(lambda: lab.status()["errors"] == [])


def test_what_an_agent_refuses_is_told_with_file_line_and_field(lab):
    policy = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "p"}}
    policy["spec"] = {"endpointSelector": {}, "x": 1}
    file = lab.path / "store/\x1b[31m.yaml"
    file.write_text("---\n" + json.dumps(policy))
    told = f"node n1: {file}:2 CiliumNetworkPolicy/default/p spec.x: unknown field"
    try:
        assert eventually(lambda: any(e.startswith(told) for e in lab.status()["errors"]))
        done = lab.lab("status", check=False)
        assert (done.returncode, "\\x1b[31m.yaml:2" in done.stderr, "\x1b" in done.stderr) == (1, True, False)
    finally:
        file.unlink()
