# SPDX-License-Identifier: Apache-2.0
"""A random world in the engine: decoded, compiled, encoded."""

from __future__ import annotations

from typing import Any

from ciliumpy.enforcement.encode import CLASS_LEVELS, DoesNotFitError, Numbers, encode
from ciliumpy.enforcement.vectors import Vectors
from ciliumpy.model.cluster_np import decode_cluster_network_policy
from ciliumpy.model.cnp import decode_policy
from ciliumpy.model.knp import decode_network_policy
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.rule import Rule
from ciliumpy.model.verdicts import Enforcement
from ciliumpy.policy.prefixes import Longest, named_by, outside_labels
from ciliumpy.policy.repository import PolicyKey, Repository
from ciliumpy.policy.resolve import PortNumbers, port_label
from ciliumpy.tables.enforcement import PolicySet
from tests.unit.policy.brute import End
from tests.unit.policy.worlds import World

BITS = 1024
FIRST = 1000
DECODERS = {"NetworkPolicy": decode_network_policy, "ClusterNetworkPolicy": decode_cluster_network_policy}


def options(mode: str) -> PolicyOptions:
    return PolicyOptions(enforcement=Enforcement(mode), cluster_network_policy=True)


def decoded(document: dict[str, Any], chosen: PolicyOptions) -> tuple[PolicyKey, tuple[Rule, ...]]:
    metadata = document["metadata"]
    key = PolicyKey(document["kind"], metadata.get("namespace", ""), metadata["name"])
    return key, DECODERS.get(document["kind"], decode_policy)(document, chosen).rules


def numbers(end: End) -> PortNumbers:
    return tuple(sorted((protocol, name.lower(), number) for name, protocol, number in end.ports))


class Engine:
    """Identities of all ends and the sets of the pods; `refused` are pods whose set does not fit."""

    def __init__(self, world: World, given: Numbers | None = None) -> None:
        self.world = world
        chosen = options(world.mode)
        self.repository = Repository(chosen)
        self.policies = dict(decoded(document, chosen) for document in world.documents)
        longest = Longest(named_by(rule for rules in self.policies.values() for rule in rules))
        self.identity = {end: FIRST + at for at, end in enumerate((*world.pods, *world.others))}
        self.labels = {end: outside_labels(end.address, longest) if end.address else end.texts for end in self.identity}
        for end, number in self.identity.items():
            self.repository.set_ports(number, numbers(end))
        for key, rules in self.policies.items():
            self.repository.set_policy(key, rules)
        self.bits: dict[Any, int] = {}
        self.sets: dict[End, PolicySet] = {}
        self.refused: dict[End, str] = {}
        given = given or Numbers()
        for pod in world.pods:
            self.repository.set_subject(self.identity[pod], pod.texts)
            compiled = self.repository.compile(self.identity[pod], numbers(pod))
            for selector in compiled.selectors():
                self.bits.setdefault(selector, len(self.bits))
            try:
                self.sets[pod], _ = encode(compiled, self.identity[pod], self.bits, given, 1, BITS)
            except DoesNotFitError as error:
                deepest = max(len(levels) for side in (compiled.ingress, compiled.egress) for levels in side.classes())
                assert deepest > CLASS_LEVELS, "nothing is refused but for its size"
                self.refused[pod] = str(error)
        vectors = Vectors(BITS, self.bits)
        found = {
            number: (*self.labels[end], *(port_label(*port) for port in numbers(end)))
            for end, number in self.identity.items()
        }
        for _ in vectors.set_identities(found):
            pass
        self.vectors = {number: vectors.row(number).words for number in found}
