# SPDX-License-Identifier: Apache-2.0
"""The wide object is the same program with more bits: for the same rows it gives the same answers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ciliumpy.bpf.names import NARROW, WIDE
from tests.bpf.node import ALLOW, DENY, EGRESS, FAR, INGRESS, REDIRECT, SHOT, WORLD, WORLD4, WORLD6, Level, Node
from tests.bpf.packets import SYN, TCP, UDP, echo, tcp, udp

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root
PEERS = (1000, 2000, 3000, WORLD4, WORLD6)
POLICIES, PACKETS = 40, 12


def random_bits(dice: random.Random, limit: int) -> tuple[int, ...]:
    """Few, so that many levels do not meet; often at the ends of words and parts."""
    edges = [bit for word in range(0, limit, 64) for bit in (word, word + 63)]
    return tuple({dice.choice((dice.choice(edges), dice.randrange(limit))) for _ in range(dice.randrange(4))})


def random_class(dice: random.Random, named: list[int]) -> list[Level]:
    levels = []
    for _ in range(dice.randrange(1, 17)):
        bits = {*dice.sample(named, dice.randrange(3)), *random_bits(dice, NARROW.bits)}
        levels.append(Level(dice.choice((ALLOW, DENY, 3, 4)), tuple(bits), everybody=dice.random() < 0.05))
    return levels


def told(node: Node, payload: bytes) -> tuple[object, ...]:
    result = node.pod(node.pods[0], payload)
    rules = [(one[leg].tolist(), int(one["reason"])) for one in result.events for leg in ("egress", "ingress")]
    return result.verdict, result.types, rules


@pytest.mark.parametrize("seed", range(4))
def test_both_objects_judge_alike(make_node: Callable[..., Node], seed: int) -> None:
    nodes = [make_node("datapath"), make_node("datapath_wide")]
    dice = random.Random(seed)
    seen = []
    for _ in range(POLICIES):
        vectors = {identity: random_bits(dice, NARROW.bits) for identity in PEERS if dice.random() < 0.9}
        named = sorted({0, *(bit for bits in vectors.values() for bit in bits)})
        classes = [random_class(dice, named * 3) for _ in range(3)]
        places = [dice.randrange(4) for _ in range(5)]
        pod, direction = dice.choice(((0, EGRESS), (1, INGRESS)))
        for node in nodes:
            for identity in PEERS:
                node.maps[node.width.vectors].delete(np.uint32(identity).tobytes())
            for identity, bits in vectors.items():
                node.vector(identity, *bits)
            numbers = [node.port_class(*levels) for levels in classes] + [0]
            ports = {(TCP, 80): numbers[places[0]], (UDP, 53): numbers[places[1]]}
            ranges = {TCP: [(100, 200, numbers[places[2]])], UDP: [(1, 99, numbers[places[3]])]}
            for each in node.pods:
                node.free(each)
            node.policy(node.pods[pod], direction, ports, ranges=ranges, default=numbers[places[4]])
            node.bump()
        for _ in range(PACKETS):
            version = dice.choice((4, 6))
            ends = nodes[0].pods[0].ip[version], dice.choice((nodes[0].pods[1].ip, FAR, WORLD))[version]
            port = dice.choice((80, 53, 99, 100, 200, 201))
            payload = dice.choice(
                (
                    tcp(*ends, 4000, port, SYN),
                    udp(*ends, dice.randrange(3000, 60000), port),
                    echo(*ends, dice.randrange(9999)),
                )
            )
            answers = [told(node, payload) for node in nodes]
            assert answers[0] == answers[1]
            seen.append(answers[0][0])
    assert seen.count(SHOT) > 20
    assert seen.count(REDIRECT) > 20


@pytest.mark.parametrize("bit", [0, 1023, 1024, 1087, 1088, 2047, 2048, 3000, 4032, 4095])
def test_every_bit_counts_and_is_named(make_node: Callable[..., Node], bit: int) -> None:
    node = make_node("datapath_wide")
    one, two, _ = node.pods
    others = tuple(other for other in (bit - 1, bit + 1, bit ^ 64, bit ^ 1024) if 0 <= other < WIDE.bits)
    node.policy(two, INGRESS, default=node.port_class(Level(DENY, others), Level(ALLOW, (bit,))))

    node.vector(one.identity, *others)
    denied = node.pod(one, udp(one.ip[4], two.ip[4], 4000, 53))
    node.vector(one.identity, bit)
    allowed = node.pod(one, udp(one.ip[4], two.ip[4], 4000, 54))

    assert (denied.verdict, denied.reason) == (SHOT, 181)
    assert denied.events[0]["ingress"]["bit"] == min(others)
    assert allowed.verdict == REDIRECT
    assert (allowed.events[0]["ingress"]["bit"], allowed.events[0]["ingress"]["level"]) == (bit, 1)


def test_who_has_no_vector_meets_denials_alone(make_node: Callable[..., Node]) -> None:
    node = make_node("datapath_wide")
    one, two, three = node.pods
    node.policy(two, INGRESS, default=node.port_class(Level(ALLOW, (5,)), Level(DENY, (4000,)), Level(everybody=True)))
    node.policy(three, INGRESS, default=node.port_class(Level(ALLOW, (5,)), Level(everybody=True)))

    assert node.pod(one, udp(one.ip[4], two.ip[4], 4000, 53)).reason == 181
    assert node.pod(one, udp(one.ip[4], three.ip[4], 4000, 53)).verdict == REDIRECT
