# SPDX-License-Identifier: Apache-2.0
"""Policies broken at random are taken or refused with a field; what is taken compiles, and both judges agree on it.

A few seconds in a common run, from the same seeds; ten minutes in a soak run, from others each time. A failure names
its seed: CILIUMPY_SEED=N runs that one alone.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from itertools import product
from random import Random
from typing import Any

import msgspec
import pytest

from ciliumpy.enforcement.encode import DoesNotFitError, Numbers, encode
from ciliumpy.enforcement.vectors import Vectors
from ciliumpy.model.cluster_np import CLUSTER_NETWORK_POLICY, decode_cluster_network_policy
from ciliumpy.model.cnp import KINDS, decode_policy
from ciliumpy.model.documents import DocumentError, parse
from ciliumpy.model.errors import FieldError, path_text
from ciliumpy.model.knp import NETWORK_POLICY, decode_network_policy
from ciliumpy.model.labels import parse as label
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.rule import DecodedPolicy, ServicePeer
from ciliumpy.model.verdicts import Direction, Verdict
from ciliumpy.policy.compiled import Bound
from ciliumpy.policy.oracle import judge
from ciliumpy.policy.prepared import Named
from ciliumpy.policy.repository import PolicyKey, Repository
from ciliumpy.policy.resolve import PortNumbers, Service, port_label
from tests.fuzz.mutate import mutated
from tests.fuzz.seeds import manual, policies
from tests.soak import SOAK
from tests.unit.policy.lookup import lookup

SECONDS = 600 if SOAK else 4
LONGEST_S = 2.0  # of the CPU, for one document
SIZE = 1024
OPTIONS = PolicyOptions(host_firewall=True, node_selector_labels=True, cluster_network_policy=True)
PORTS: PortNumbers = ((6, "http", 8080),)
SERVICES = (
    Service("shop", "db", labels=(("exposed", "yes"),), selector=(("app", "db"),)),
    Service("shop", "api", backends=("192.0.2.7/32",)),
)
POD = ("k8s:io.cilium.k8s.policy.cluster=default", "k8s:io.kubernetes.pod.namespace=shop")
ENDS: dict[int, tuple[str, ...]] = {
    1: ("reserved:host", "node:pool=a"),
    6: ("reserved:remote-node", "node:pool=b"),
    9: ("reserved:world-ipv4",),
    1000: ("k8s:app=web", *POD),
    1001: ("k8s:app=db", "k8s:tier=frontend", *POD),
    1002: ("k8s:app=web", POD[0], "k8s:io.kubernetes.pod.namespace=guest"),
    1003: ("cidr:10.1.0.0/16", "reserved:world-ipv4", "cidrgroup:kind=vpn"),
}
SUBJECTS = (1, 1000, 1001)


def decode(document: dict[str, Any]) -> DecodedPolicy:
    kind = document.get("kind")
    if kind == NETWORK_POLICY:
        return decode_network_policy(document, OPTIONS)
    if kind == CLUSTER_NETWORK_POLICY:
        return decode_cluster_network_policy(document, OPTIONS)
    return decode_policy(document, OPTIONS)


def judged(decoded: DecodedPolicy, random: Random) -> None:
    """Compile what the policy means for a few subjects and ask: the kernel's rows say what the rules say."""
    key = PolicyKey("Policy", "", "p")
    repository = Repository(OPTIONS)
    repository.set_policy(key, decoded.rules)
    for service in SERVICES:
        repository.set_service(service)
    for number, labels in ENDS.items():
        repository.set_ports(number, PORTS if number >= 1000 else ())
        repository.set_subject(number, labels) if number in SUBJECTS else None
    named = [Named(rule, Bound(*key, rule.path)) for rule in decoded.rules]
    subject = random.choice(SUBJECTS)
    compiled = repository.compile(subject, PORTS if subject >= 1000 else ())
    bits = {selector: i for i, selector in enumerate(sorted(compiled.selectors()))}
    if len(bits) > SIZE:
        return
    try:
        row, _ = encode(compiled, 1, bits, Numbers(), 1, SIZE)
    except DoesNotFitError:
        return
    vectors = Vectors(SIZE, bits)
    known = {n: (*labels, *(port_label(*p) for p in PORTS if n >= 1000)) for n, labels in ENDS.items()}
    for number, labels in known.items():
        vectors.set_identity(number, labels)
    words = {number: vectors.row(number).words for number in known}
    own = tuple(label(text) for text in known[subject])
    for peer, direction, (protocol, port) in product(
        known, Direction, random.sample(((6, 80), (6, 8080), (17, 53), (1, 8), (132, 5)), 2)
    ):
        other = tuple(label(text) for text in known[peer])
        wanted = judge(named, direction, own, other, protocol, port, OPTIONS, SERVICES)
        answer = lookup(row, words, peer, direction, protocol, port)
        assert (answer.verdict, bool(answer.rules)) == (wanted.verdict, wanted.reason == "policy")


def sound(decoded: DecodedPolicy) -> None:
    """What must hold of all rules, whatever they say."""
    for rule in decoded.rules:
        assert (rule.verdict is Verdict.REDIRECT) == (rule.proxy is not None)
        assert rule.path
        for port in rule.ports or ():
            if hasattr(port, "name"):
                assert port.name == port.name.lower()
            else:
                assert 0 <= port.first <= port.last <= 65535
        for peer in rule.peers or ():
            assert isinstance(peer, ServicePeer) or str(peer)
    msgspec.json.encode(decoded)


def once(seed: int) -> str:
    """One policy broken; what became of it."""
    random = Random(seed)
    document = mutated(random, policies())
    began = time.process_time()
    found = attempt(document)
    if isinstance(found, DecodedPolicy):
        sound(found)
        judged(found, random)
    else:
        assert str(found).startswith(path_text(found.path))
        assert len(found.message) < 1000
        assert "\n" not in found.message
    assert time.process_time() - began < LONGEST_S, "it takes too long"
    return "taken" if isinstance(found, DecodedPolicy) else "refused"


def attempt(document: dict[str, Any]) -> DecodedPolicy | FieldError:
    try:
        return decode(document)
    except FieldError as error:
        return error


def as_text(seed: int) -> None:
    """A policy's YAML with a few bytes changed: read by line, or decoded, or refused."""
    random = Random(seed)
    data = bytearray(json.dumps(json.loads(random.choice(policies())), indent=1).encode())
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(data))
        data[at : at + random.randint(0, 3)] = bytes(
            random.choice(b'{}[]:,"\n\t &*!|>%@`#-0a\x00\xff') for _ in range(2)
        )
    try:
        for found in parse(bytes(data)):
            decode(found.value)
    except (DocumentError, FieldError):
        pass


def test_the_manuals_examples_are_taken():
    for document in manual():
        assert decode(document).rules, document


@pytest.mark.timeout(SECONDS * 2 + 60)
def test_broken_policies_are_taken_or_refused():
    alone = os.environ.get("CILIUMPY_SEED")
    seed = int(alone) if alone else time.time_ns() if SOAK else 0
    became: Counter[str] = Counter()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end or not became:
        try:
            became[once(seed)] += 1
            as_text(seed)
        except Exception as error:
            error.add_note(f"CILIUMPY_SEED={seed}: {json.dumps(mutated(Random(seed), policies()))}")
            raise
        seed += 1
        if alone:
            return
    assert all(became[what] > 20 for what in ("refused", "taken")), became


def test_kinds_are_those_of_the_decoders():
    assert {*KINDS, NETWORK_POLICY, CLUSTER_NETWORK_POLICY} == {json.loads(text)["kind"] for text in policies()}
