# SPDX-License-Identifier: Apache-2.0
"""The recorded cases as worlds: policies decoded, ends of queries as labels and named ports."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ciliumpy.model.cidr import Groups, canonical
from ciliumpy.model.cluster_np import decode_cluster_network_policy
from ciliumpy.model.cnp import decode_policy
from ciliumpy.model.errors import FieldError
from ciliumpy.model.identity import Reserved, reserved_labels
from ciliumpy.model.knp import decode_network_policy
from ciliumpy.model.labels import Label, LabelFilter, pod_labels, texts
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.ports import parse_protocol
from ciliumpy.model.rule import Rule
from ciliumpy.model.verdicts import Direction, Enforcement
from ciliumpy.policy.prefixes import Longest, inside_labels, named_by, outside_labels
from ciliumpy.policy.repository import PolicyKey
from ciliumpy.policy.resolve import NO_PORTS, PortNumbers

DATA = Path(__file__).parents[2] / "data"
CLUSTERS, KUBERNETES = DATA / "policy-truth.jsonl.gz", DATA / "networkpolicy-truth.json.gz"
DECODERS = {
    "CiliumNetworkPolicy": decode_policy,
    "CiliumClusterwideNetworkPolicy": decode_policy,
    "NetworkPolicy": decode_network_policy,
    "ClusterNetworkPolicy": decode_cluster_network_policy,
}
_FILTER = LabelFilter()


class End(NamedTuple):
    """One end of a query as the engine knows it."""

    labels: tuple[str, ...]
    ports: PortNumbers = NO_PORTS


class Question(NamedTuple):
    subject: End
    peer: End
    direction: Direction
    protocol: int
    port: int
    verdict: str
    reason: str  # empty: not recorded


class World(NamedTuple):
    """Policies in force and what is asked of them."""

    id: str
    tags: frozenset[str]
    options: PolicyOptions
    policies: Mapping[PolicyKey, tuple[Rule, ...]]
    questions: tuple[Question, ...]


class Case(NamedTuple):
    world: World
    refused: dict[str, str]  # object -> why we refuse it
    expected_refused: set[str]
    because: dict[str, str]


@cache
def lines() -> tuple[bytes, ...]:
    """The cases of the first file, a JSON text each."""
    with gzip.open(CLUSTERS) as file:
        return tuple(file)


def cases(part: slice = slice(None)) -> Iterator[Case]:
    for line in lines()[part]:
        yield _case(json.loads(line))


def kubernetes(options: PolicyOptions) -> Iterator[World]:
    """The steps of the second file; a pod's questions to itself left out."""
    with gzip.open(KUBERNETES) as file:
        recorded = json.load(file)
    for case in recorded["cases"]:
        for number, step in enumerate(case["steps"]):
            yield _step(f"{case['name']}#{number}", frozenset(case["tags"]), step, options)


def _case(case: dict[str, Any]) -> Case:
    objects: dict[str, list[dict[str, Any]]] = {}
    for thing in case["objects"]:
        objects.setdefault(thing["kind"], []).append(thing)
    options = _options(objects["ConfigMap"][0]["data"])
    policies: dict[PolicyKey, tuple[Rule, ...]] = {}
    refused: dict[str, str] = {}
    for kind, decoder in DECODERS.items():
        for thing in objects.get(kind, ()):
            key = PolicyKey(kind, thing["metadata"].get("namespace", ""), thing["metadata"]["name"])
            try:
                policies[key] = decoder(thing, options).rules
            except FieldError as error:
                refused["/".join(filter(None, key))] = str(error)
    ends = _Ends(objects, options, policies)
    world = World(case["id"], frozenset(case["tags"]), options, policies, tuple(_questions(case, ends, options)))
    return Case(world, refused, set(case["refused"]), case.get("refusedBecause") or {})


def _options(config: Mapping[str, str]) -> PolicyOptions:
    def on(key: str) -> bool:
        return config[key] == "true"

    return PolicyOptions(
        cluster=config["cluster-name"],
        enforcement=Enforcement(config["enable-policy"]),
        ipv4=on("enable-ipv4"),
        ipv6=on("enable-ipv6"),
        host_firewall=on("enable-host-firewall"),
        cluster_network_policy=on("enable-k8s-cluster-network-policy"),
    )


class _Ends:
    """The ends of a case's queries, each made once."""

    def __init__(
        self,
        objects: Mapping[str, list[dict[str, Any]]],
        options: PolicyOptions,
        policies: Mapping[PolicyKey, tuple[Rule, ...]],
    ) -> None:
        self._objects = objects
        self._options = options
        self._groups = Groups()
        named = named_by(rule for rules in policies.values() for rule in rules)
        for group in objects.get("CiliumCIDRGroup", ()):
            metadata, prefixes = group["metadata"], group["spec"]["externalCIDRs"]
            self._groups.set(metadata["name"], metadata.get("labels", {}), prefixes)
            named |= {canonical(prefix) for prefix in prefixes}
        self._named = Longest(named)
        self._known = {("pod", name): end for name, end in self._pods()}

    def get(self, end: Mapping[str, str]) -> End:
        [key] = end.items()
        if key not in self._known:
            self._known[key] = End(self._address(key[1]) if key[0] == "ip" else self._entity(key[1]))
        return self._known[key]

    def _pods(self) -> Iterator[tuple[str, End]]:
        spaces = {o["metadata"]["name"]: o["metadata"].get("labels", {}) for o in self._objects.get("Namespace", ())}
        known: dict[str, End] = {}  # pods of one set look alike
        for pod in self._objects.get("Pod", ()):
            meta, spec = pod["metadata"], pod["spec"]
            alike = repr((meta["namespace"], meta.get("labels"), spec.get("serviceAccountName"), spec["containers"]))
            if alike not in known:
                labels = pod_labels(
                    meta["namespace"],
                    meta.get("labels", {}).items(),
                    namespace_labels=spaces.get(meta["namespace"], {}).items(),
                    service_account=spec.get("serviceAccountName", ""),
                    cluster=self._options.cluster,
                    keep=_FILTER,
                )
                known[alike] = End(labels, _ports(spec))
            yield f"{meta['namespace']}/{meta['name']}", known[alike]

    def _address(self, address: str) -> tuple[str, ...]:
        families = {"ipv4": self._options.ipv4, "ipv6": self._options.ipv6}
        return outside_labels(address, self._named, self._groups, **families)

    def _entity(self, name: str) -> tuple[str, ...]:
        if name == "world" and self._options.ipv4 and self._options.ipv6:
            name = "world-ipv4"
        labels = reserved_labels(Reserved[name.upper().replace("-", "_")])
        if name == "host" and self._options.host_firewall:
            [node] = self._objects["Node"]
            own = (Label("node", key, value) for key, value in node["metadata"]["labels"].items())
            labels += texts(label for label in own if _FILTER(label))
        return labels


def _ports(spec: Mapping[str, Any]) -> PortNumbers:
    found = {
        (int(protocol), port["name"].lower(), port["containerPort"])
        for container in spec["containers"]
        for port in container.get("ports", ())
        if port.get("name")
        for protocol in parse_protocol(port.get("protocol", "TCP"))
    }
    return tuple(sorted(found))


def _questions(case: dict[str, Any], ends: _Ends, options: PolicyOptions) -> Iterator[Question]:
    for query, answer in zip(case["queries"], case["expected"], strict=True):
        [protocol] = parse_protocol(query["protocol"])
        for direction, own, other in ((Direction.EGRESS, "from", "to"), (Direction.INGRESS, "to", "from")):
            verdict = answer[direction.name.lower()]
            host = query[own].get("entity") == "host" and options.host_firewall
            assert (verdict is not None) is (host or "pod" in query[own]), "who is an endpoint has a verdict"
            if verdict is not None:
                reason = answer[direction.name.lower() + "Reason"]
                yield Question(
                    ends.get(query[own]), ends.get(query[other]), direction, protocol, query["port"], verdict, reason
                )


def _step(name: str, tags: frozenset[str], step: dict[str, Any], options: PolicyOptions) -> World:
    policies = {
        PolicyKey("NetworkPolicy", policy["metadata"]["namespace"], policy["metadata"]["name"]): decode_network_policy(
            policy, options
        ).rules
        for policy in step["policies"] or ()
    }
    named = Longest(named_by(rule for rules in policies.values() for rule in rules))
    ports = tuple(
        sorted(
            (int(number), f"serve-{port}-{text}", port)
            for text in ("tcp", "udp")
            for [number] in (parse_protocol(text),)
            for port in (80, 81)
        )
    )
    ends = {}
    for name_, pod in step["pods"].items():
        labels = pod_labels(
            name_.partition("/")[0],
            pod["labels"].items(),
            namespace_labels=pod["namespaceLabels"].items(),
            keep=_FILTER,
        )
        if "pods" in options.cidr_match_mode:
            labels = tuple(sorted({*labels, *inside_labels([pod["ip"]], named)}))
        ends[name_] = End(labels, ports)
    questions = []
    for source, target, protocol, port, _, *allowed in step["cells"]:
        if source == target:
            continue
        [number] = parse_protocol(protocol)
        sides = ((Direction.INGRESS, target, source), (Direction.EGRESS, source, target))
        for (direction, own, other), passes in zip(sides, allowed, strict=True):
            verdict = "allowed" if passes else "denied"
            questions.append(Question(ends[own], ends[other], direction, number, port, verdict, ""))
    return World(name, tags, options, policies, tuple(questions))
