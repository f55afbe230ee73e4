# SPDX-License-Identifier: Apache-2.0
"""The recorded cases: objects decoded, ends of queries as labels."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ciliumpy.model.cnp import decode_policy
from ciliumpy.model.errors import FieldError
from ciliumpy.model.identity import Reserved, reserved_labels
from ciliumpy.model.labels import pod_labels
from ciliumpy.model.ports import parse_protocol
from ciliumpy.model.rule import Rule
from ciliumpy.model.verdicts import Direction, Enforcement
from ciliumpy.policy.repository import PolicyKey

FILE = Path(__file__).parents[2] / "data" / "policy-truth.jsonl.gz"


class Question(NamedTuple):
    subject: tuple[str, ...]
    peer: tuple[str, ...]
    direction: Direction
    protocol: int
    port: int
    verdict: str
    reason: str


class Case(NamedTuple):
    id: str
    enforcement: Enforcement
    policies: dict[PolicyKey, tuple[Rule, ...]]
    notices: int
    refused: dict[str, str]  # object -> why we refuse it
    expected_refused: set[str]
    because: dict[str, str]
    questions: list[Question]


def cases() -> list[Case]:
    with gzip.open(FILE, "rt") as lines:
        return [load(json.loads(line)) for line in lines]


def load(case: dict[str, Any]) -> Case:
    policies, refused, notices = {}, {}, 0
    for thing in case["objects"]:
        if thing["kind"] in ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"):
            key = PolicyKey(thing["kind"], thing["metadata"].get("namespace", ""), thing["metadata"]["name"])
            try:
                decoded = decode_policy(thing)
            except FieldError as error:
                refused["/".join(filter(None, key))] = str(error)
                continue
            policies[key] = decoded.rules
            notices += len(decoded.notices)
    config = {thing["metadata"]["name"]: thing.get("data") for thing in case["objects"]}.get("cilium-config") or {}
    return Case(
        case["id"],
        Enforcement(config.get("enable-policy", "default")),
        policies,
        notices,
        refused,
        set(case["refused"]),
        case.get("refusedBecause") or {},
        list(_questions(case, dual_stack=config.get("enable-ipv6") == "true")),
    )


def _questions(case: dict[str, Any], *, dual_stack: bool) -> Iterator[Question]:
    pods = _pods(case["objects"])
    for query, answer in zip(case["queries"], case["expected"], strict=True):
        [protocol] = parse_protocol(query["protocol"])
        ends = {side: _labels(query[side], pods, dual_stack=dual_stack) for side in ("from", "to")}
        for direction, own, other in ((Direction.EGRESS, "from", "to"), (Direction.INGRESS, "to", "from")):
            verdict = answer[direction.name.lower()]
            # Without a host firewall an entity is no endpoint.
            if verdict is not None and "entity" not in query[own]:
                reason = answer[direction.name.lower() + "Reason"]
                yield Question(ends[own], ends[other], direction, protocol, query["port"], verdict, reason)


def _pods(objects: list[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    spaces = {o["metadata"]["name"]: o["metadata"].get("labels", {}) for o in objects if o["kind"] == "Namespace"}
    return {
        f"{meta['namespace']}/{meta['name']}": pod_labels(
            meta["namespace"],
            meta.get("labels", {}).items(),
            namespace_labels=spaces.get(meta["namespace"], {}).items(),
            service_account=pod["spec"].get("serviceAccountName", ""),
        )
        for pod in objects
        if pod["kind"] == "Pod"
        for meta in [pod["metadata"]]
    }


def _labels(end: dict[str, str], pods: dict[str, tuple[str, ...]], *, dual_stack: bool) -> tuple[str, ...]:
    if "pod" in end:
        return pods[end["pod"]]
    name = end.get("entity", "world")
    if name == "world" and dual_stack:
        name = "world-ipv6" if ":" in end.get("ip", "") else "world-ipv4"
    return reserved_labels(Reserved[name.upper().replace("-", "_")])
