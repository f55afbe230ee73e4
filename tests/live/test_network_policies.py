# SPDX-License-Identifier: Apache-2.0
"""The recorded NetworkPolicy cases between real pods: every step written, every cell tried.

A pod and itself are left aside: a pod always reaches itself, and the record has the rules' opinion of that.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.live.expected import Rules, labels_of
from tests.live.pods import Pods, lab, namespace, pod
from tests.soak import SOAK

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
FILE = Path(__file__).parents[1] / "data" / "networkpolicy-truth.json.gz"
PORTS = [
    {"name": f"serve-{number}-{protocol.lower()}", "containerPort": number, "protocol": protocol}
    for number in (80, 81)
    for protocol in ("TCP", "UDP")
]
NODES = {"a": "n1", "b": "n2", "c": "n1"}
SECONDS = 0.6
LONGER_S = 4.0  # for what should have answered: the machine may have been busy
Cell = tuple[str, str, str, int]


def cases() -> list[dict[str, Any]]:
    with gzip.open(FILE) as file:
        found = json.load(file)["cases"]
    return found if SOAK else found[4::10]


@pytest.fixture(scope="module")
def pods() -> Iterator[Pods]:
    with lab(f"cpnp{os.getpid()}") as found:
        everybody = [f"{home}/{name}" for home in "xyz" for name in "abc"]
        found.apply(*(namespace(home, {"ns": home}) for home in "xyz"))
        found.apply(*(_pod(each, {"pod": each[-1]}) for each in everybody))
        found.enter(everybody)
        yield found


def _pod(where: str, labels: Mapping[str, str]) -> Mapping[str, Any]:
    return pod(where, labels, NODES[where[-1]], PORTS)


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_a_recorded_case(case: dict[str, Any], pods: Pods) -> None:
    family = 4 if "peer-ipblock" in case["tags"] or len(case["name"]) % 2 else 6
    before = dict(pods.documents), dict(pods.namespaces)
    written: dict[str, Mapping[str, Any]] = {}
    try:
        for step in case["steps"]:
            for action in step["actions"]:
                [(verb, what)] = action.items()
                _do(verb, what, pods, written)
            expected = {
                (one, other, protocol, port): bool(ingress and egress)
                for one, other, protocol, port, _, ingress, egress in step["cells"]
                if one != other
            }
            if "ipBlock" in json.dumps(step["policies"]):
                expected = _as_cidrs_match(expected, list(written.values()), pods)
            assert _wrong(expected, pods, family) == []
    finally:
        if written:
            pods.delete(*written.values())
        _restore(pods, *before)


def test_what_is_left_aside_is_known() -> None:
    with gzip.open(FILE) as file:
        cells = [cell for case in json.load(file)["cases"] for step in case["steps"] for cell in step["cells"]]
    assert sum(one == other for one, other, *_ in cells) == 4639, "a pod and itself"
    assert len(cells) == 41791


def _do(verb: str, what: Mapping[str, Any], pods: Pods, written: dict[str, Mapping[str, Any]]) -> None:
    match verb:
        case "CreatePolicy" | "UpdatePolicy":
            document = _in_lab(what["Policy"])
            written[document["metadata"]["name"] + "/" + document["metadata"]["namespace"]] = document
            pods.apply(document)
        case "SetNamespaceLabels" | "CreateNamespace":
            pods.apply(namespace(what["Namespace"], what["Labels"]))
        case "SetPodLabels" | "CreatePod":
            where = f"{what['Namespace']}/{what['Pod']}"
            pods.apply(_pod(where, what["Labels"]))
            if verb == "CreatePod":
                pods.enter([where])
        case "DeletePod":
            pods.delete(pods.documents[f"{what['Namespace']}/{what['Pod']}"])
        case "DeleteNamespace":
            pods.delete(namespace(what["Namespace"], {}))
        case _:
            raise AssertionError(f"the record has a {verb}, which this test cannot do")


def _in_lab(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The policy with the lab's addresses for the record's: its prefixes cover all pods, or most."""
    text = json.dumps({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"} | dict(policy))
    return json.loads(text.replace("192.168.1.0/24", "10.244.0.0/16").replace("192.168.1.0/28", "10.244.0.0/17"))


def _restore(pods: Pods, documents: Mapping[str, Any], namespaces: Mapping[str, Any]) -> None:
    gone = [document for where, document in pods.documents.items() if where not in documents]
    if gone:
        pods.delete(*gone)
    changed = [namespace(home, labels) for home, labels in namespaces.items() if pods.namespaces.get(home) != labels]
    changed += [document for where, document in documents.items() if pods.documents.get(where) != document]
    if changed:
        pods.apply(*changed)


def _as_cidrs_match(expected: Mapping[Cell, bool], policies: list[Mapping[str, Any]], pods: Pods) -> dict[Cell, bool]:
    """What is expected where a prefix matches nobody in the cluster, whatever its address."""
    rules = Rules(policies)
    labels = {where: labels_of(pods.labels(where), PORTS) for where in pods.documents}
    found = {cell: rules.allow(labels[cell[0]], labels[cell[1]], *cell[2:]) for cell in expected}
    assert all(allowed for cell, allowed in expected.items() if found[cell]), "a prefix allows, it never denies"
    return found


def _wrong(expected: Mapping[Cell, bool], pods: Pods, family: int) -> list[str]:
    """Try all cells; what does not agree. What is to be open is tried once more, with patience."""
    found = _try(list(expected), pods, family, SECONDS)
    wrong = [f"{_said(cell)} is open" for cell, allowed in expected.items() if found[cell] and not allowed]
    silent = [cell for cell, allowed in expected.items() if allowed and not found[cell]]
    again = _try(silent, pods, family, LONGER_S) if silent else {}
    return wrong + [f"{_said(cell)} is closed" for cell, answered in again.items() if not answered]


def _try(cells: list[Cell], pods: Pods, family: int, seconds: float) -> dict[Cell, bool]:
    addresses = {where: pods.address(where, family) for where in pods.documents}
    sources = sorted({cell[0] for cell in cells})

    def from_one(source: str) -> dict[Cell, bool]:
        own = [cell for cell in cells if cell[0] == source]
        targets = [(protocol, addresses[other], port) for _, other, protocol, port in own]
        answer = pods.ask(source, "try", targets=targets, seconds=seconds, timeout_s=seconds + 10.0)
        return dict(zip(own, answer["open"], strict=True))

    with ThreadPoolExecutor(len(sources)) as pool:
        return {cell: value for part in pool.map(from_one, sources) for cell, value in part.items()}


def _said(cell: Cell) -> str:
    return f"{cell[0]} -> {cell[1]} {cell[3]}/{cell[2]}"
