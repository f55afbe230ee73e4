# SPDX-License-Identifier: Apache-2.0
"""Random changes of policies and labels under constant traffic: what arrives was allowed, and what was allowed arrives.

Every pod sends numbered datagrams to every other, and counts what comes. Each change waits until all nodes act by it. A
datagram meets two sets of rules, its sender's and its receiver's, and while a change is on its way each may be the one
before or the one after. What all that it can have met allow must arrive, what all forbid must not. Pods of a namespace
get its new labels one after the other.
"""

from __future__ import annotations

import base64
import os
import random
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from ciliumpy.model.labels import Label
from tests.live.expected import Rules, labels_of
from tests.live.pods import Pods, lab, namespace, pod
from tests.live.probe import RECEIVED, SENT
from tests.soak import scaled

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]
ROUNDS, CHANGES = scaled(5), 200
PORTS = [
    {"name": "first", "containerPort": 7001, "protocol": "UDP"},
    {"name": "second", "containerPort": 7002, "protocol": "UDP"},
]
HOMES = ("red", "blue")
PODS = tuple(f"{home}/{name}" for home in HOMES for name in "abc")
NODES = {"a": "n1", "b": "n2", "c": "n1"}
EVERY_S = 0.02  # a datagram to each target
ON_ITS_WAY_NS = 100_000_000  # one that never came is judged by the states of this long after it was sent
COLOURS = ("light", "dark")


class Target(NamedTuple):
    source: str
    destination: str
    port: int


class State(NamedTuple):
    """From when on a state may be met, and from when on no earlier one is, in monotonic ns. Targets by their numbers.

    `out` and `into` are what senders' and receivers' rules allow; `mixed` has more, of labels half new.
    """

    written: int
    in_force: int
    out: frozenset[int]
    into: frozenset[int]
    mixed: tuple[tuple[frozenset[int], frozenset[int]], ...] = ()


@pytest.fixture(scope="module")
def pods() -> Iterator[Pods]:
    with lab(f"cpch{os.getpid()}") as found:
        found.apply(*(namespace(home, {"colour": home}) for home in HOMES))
        found.apply(*(_pod(each, "light") for each in PODS))
        found.enter(PODS)
        for each in PODS:
            found.ask(each, "sink", ports=[7001, 7002])
        yield found


def _pod(where: str, shade: str) -> Mapping[str, Any]:
    return pod(where, {"app": where[-1], "shade": shade}, NODES[where[-1]], PORTS, "sleep", "infinity")


@pytest.mark.parametrize("number", range(ROUNDS))
def test_nothing_forbidden_arrives_and_nothing_allowed_is_lost(number: int, pods: Pods) -> None:
    seed = os.environ.get("CILIUMPY_SEED") or str(random.SystemRandom().randrange(1 << 32))
    world = World(pods, random.Random(f"{seed} {number}"))
    family = 4 if number % 2 == 0 else 6
    addresses = {where: pods.address(where, family) for where in PODS}
    for source in PODS:
        own = [(n, addresses[t.destination], t.port) for n, t in enumerate(world.targets) if t.source == source]
        pods.ask(source, "send", targets=own, seconds=EVERY_S)
    try:
        for _ in range(CHANGES):
            world.change()
        time.sleep(2 * ON_ITS_WAY_NS / 1e9)  # the last state is met by datagrams too
    finally:
        for source in PODS:
            pods.ask(source, "stop", timeout_s=30.0)
        time.sleep(ON_ITS_WAY_NS / 1e9)
        answers = {source: pods.ask(source, "collect", timeout_s=30.0) for source in PODS}
        world.close()
    sent, arrived = _records(answers)
    wrong, judged = world.judge(sent, arrived)
    if wrong:
        print("\n".join(pods.drops(*world.targets[n]) for n in dict.fromkeys(wrong.values())))
    assert not wrong, f"seed {seed}: {len(wrong)} of {len(sent)} datagrams, the first:\n" + "\n".join([*wrong][:10])
    assert judged["allowed"] > len(sent) / 20, "little was allowed for certain"
    assert judged["denied"] > len(sent) / 20, "little was denied for certain"


class World:
    """The cluster's state, how it changes, and all states that it had."""

    def __init__(self, pods: Pods, chance: random.Random) -> None:
        self.targets = [
            Target(one, other, port) for one in PODS for other in PODS if one != other for port in (7001, 7002)
        ]
        self._pods = pods
        self._chance = chance
        self._policies: dict[str, Mapping[str, Any]] = {}
        self._said: list[str] = ["nothing yet"]
        self._labels = self._labels_now()
        self.states = [State(0, 0, *self._verdicts(self._labels, self._labels))]

    def change(self) -> None:
        chance = self._chance
        kind = chance.choices(("policy", "delete", "pod", "namespace"), (6, 2 if self._policies else 0, 2, 1))[0]
        if kind == "delete":
            name = chance.choice(sorted(self._policies))
            document = self._policies.pop(name)
            self._do(lambda: self._pods.delete(document), f"deleted {name}")
        elif kind == "policy":
            document = policy(chance)
            self._policies[
                document["kind"] + document["metadata"].get("namespace", "") + document["metadata"]["name"]
            ] = document
            self._do(lambda: self._pods.apply(document), f"wrote {document}")
        elif kind == "pod":
            where = chance.choice(PODS)
            self._do(lambda: self._pods.apply(_pod(where, chance.choice(COLOURS))), f"other labels for {where}")
        else:
            home = chance.choice(HOMES)
            labels = {"colour": chance.choice(HOMES)}
            self._do(lambda: self._pods.apply(namespace(home, labels)), f"other labels for the namespace {home}")

    def _do(self, change: Callable[[], None], said: str) -> None:
        written = time.monotonic_ns()
        change()
        in_force = time.monotonic_ns()
        before, self._labels = self._labels, self._labels_now()
        mixed: tuple[tuple[frozenset[int], frozenset[int]], ...] = ()
        if sum(before[where] != self._labels[where] for where in PODS) > 1:
            mixed = self._verdicts(before, self._labels), self._verdicts(self._labels, before)
        self.states.append(State(written, in_force, *self._verdicts(self._labels, self._labels), mixed))
        self._said.append(said)

    def _labels_now(self) -> Mapping[str, tuple[Label, ...]]:
        return {where: labels_of(self._pods.labels(where), PORTS) for where in PODS}

    def _verdicts(
        self, senders: Mapping[str, tuple[Label, ...]], receivers: Mapping[str, tuple[Label, ...]]
    ) -> tuple[frozenset[int], frozenset[int]]:
        """What may go out, and what may come in, of all targets."""
        rules = Rules(self._policies.values())
        known: dict[Any, tuple[bool, bool]] = {}
        out, into = set(), set()
        for number, (source, destination, port) in enumerate(self.targets):
            key = senders[source], receivers[destination], port
            if key not in known:
                asked = (*key[:2], "UDP", port)
                known[key] = rules.let_out(*asked), rules.let_in(*asked)
            if known[key][0]:
                out.add(number)
            if known[key][1]:
                into.add(number)
        return frozenset(out), frozenset(into)

    def judge(
        self, sent: list[tuple[int, ...]], arrived: Mapping[tuple[int, int], int]
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Every datagram against the states that it can have met; what is wrong, and how many were certain."""
        wrong: dict[str, int] = {}
        judged = {"allowed": 0, "denied": 0}
        in_force = [state.in_force for state in self.states]
        written = [state.written for state in self.states]
        for target, number, before, after in sent:
            came = arrived.get((target, number))
            first = bisect_right(in_force, before) - 1
            last = bisect_right(written, came if came is not None else after + ON_ITS_WAY_NS) - 1
            met = [(state.out, state.into) for state in self.states[first : last + 1]]
            met += [mixed for state in self.states[first + 1 : last + 1] for mixed in state.mixed]
            said = {target in out and target in into for out, _ in met for _, into in met}
            if len(said) > 1:
                continue
            [allowed] = said
            judged["allowed" if allowed else "denied"] += 1
            if allowed != (came is not None):
                what = "was lost" if allowed else "arrived"
                past = (before - in_force[first]) / 1e6
                coming = (written[first + 1] - before) / 1e6 if first + 1 < len(written) else 0.0
                following = self._said[first + 1] if coming else "nothing"
                said_of_it = (
                    f"{number} of {self.targets[target]} {what}, {past:.1f} ms after {self._said[first]}, before it"
                    f" {self._said[max(0, first - 1)]}, {coming:.1f} ms before {following}"
                )
                wrong[said_of_it] = target
        return wrong, judged

    def close(self) -> None:
        for document in self._policies.values():
            self._pods.delete(document)
        self._pods.apply(
            *(_pod(where, "light") for where in PODS), *(namespace(home, {"colour": home}) for home in HOMES)
        )


def policy(chance: random.Random) -> Mapping[str, Any]:
    """A policy of a small language in which most rules meet somebody."""
    if chance.random() < 0.25:
        return _network_policy(chance)
    name, home = chance.choice("pqr"), chance.choice(HOMES)
    wide = chance.random() < 0.25
    spec: dict[str, Any] = {"endpointSelector": _selector(chance)}
    for field in ("ingress", "ingressDeny", "egress", "egressDeny"):
        if chance.random() < (0.25 if field.endswith("Deny") else 0.5):
            spec[field] = [_rule(chance, field) for _ in range(chance.choice((1, 1, 2)))]
    if len(spec) == 1:
        spec["ingress"] = [_rule(chance, "ingress")]
    if chance.random() < 0.15:
        spec["enableDefaultDeny"] = {"ingress": chance.random() < 0.5, "egress": chance.random() < 0.5}
    kind = "CiliumClusterwideNetworkPolicy" if wide else "CiliumNetworkPolicy"
    metadata = {"name": name} if wide else {"name": name, "namespace": home}
    return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec}


def _selector(chance: random.Random) -> Mapping[str, Any]:
    return chance.choice(
        (
            {},
            {"matchLabels": {"app": chance.choice("abc")}},
            {"matchLabels": {"shade": chance.choice(COLOURS)}},
            {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": [chance.choice("abc")]}]},
        )
    )


def _peer(chance: random.Random) -> Mapping[str, Any]:
    namespaces = "k8s:io.cilium.k8s.namespace.labels.colour"
    return chance.choice(
        (
            _selector(chance),
            {"matchLabels": {"k8s:io.kubernetes.pod.namespace": chance.choice(HOMES)}},
            {"matchLabels": {namespaces: chance.choice(HOMES), "shade": chance.choice(COLOURS)}},
        )
    )


def _rule(chance: random.Random, field: str) -> Mapping[str, Any]:
    prefix = "from" if field.startswith("ingress") else "to"
    rule: dict[str, Any] = {}
    match chance.randrange(8):
        case 0:
            rule[prefix + "Entities"] = [chance.choice(("cluster", "all", "world", "host"))]
        case 1:
            rule[prefix + "CIDRSet"] = [{"cidr": chance.choice(("0.0.0.0/0", "10.0.0.0/8", "::/0"))}]
        case _:
            rule[prefix + "Endpoints"] = [_peer(chance) for _ in range(chance.choice((1, 2)))]
    if chance.random() < 0.6:
        rule["toPorts"] = [{"ports": [_port(chance)]}]
    return rule


def _port(chance: random.Random) -> Mapping[str, Any]:
    return chance.choice(
        (
            {"port": "7001", "protocol": "UDP"},
            {"port": "7002"},
            {"port": "first", "protocol": "UDP"},
            {"port": "second"},
            {"port": "7000", "endPort": 7001, "protocol": "ANY"},
            {"port": "7002", "endPort": 9000, "protocol": "UDP"},
            {"port": "7001", "protocol": "TCP"},
        )
    )


def _network_policy(chance: random.Random) -> Mapping[str, Any]:
    peer = chance.choice(
        (
            {"podSelector": _selector(chance)},
            {"namespaceSelector": {"matchLabels": {"colour": chance.choice(HOMES)}}},
            {"namespaceSelector": {}, "podSelector": {"matchLabels": {"shade": chance.choice(COLOURS)}}},
        )
    )
    ports = chance.choice((None, [{"port": 7001, "protocol": "UDP"}], [{"port": "second", "protocol": "UDP"}]))
    side, who = chance.choice((("ingress", "from"), ("egress", "to")))
    rule = {who: [peer]} | ({"ports": ports} if ports else {})
    spec = {"podSelector": _selector(chance), side: [rule], "policyTypes": [side.capitalize()]}
    metadata = {"name": chance.choice("pqr"), "namespace": chance.choice(HOMES)}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _records(answers: Mapping[str, Mapping[str, str]]) -> tuple[list[tuple[int, ...]], dict[tuple[int, int], int]]:
    sent: list[tuple[int, ...]] = []
    arrived = {}
    for answer in answers.values():
        sent += SENT.iter_unpack(base64.b64decode(answer["sent"]))
        for target, number, when in RECEIVED.iter_unpack(base64.b64decode(answer["received"])):
            arrived[target, number] = when
    return sent, arrived
