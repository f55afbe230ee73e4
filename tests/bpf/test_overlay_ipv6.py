# SPDX-License-Identifier: Apache-2.0
"""The tunnel over IPv6: what comes out of it is believed by the same rules."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.bpf.node import (
    FAR,
    FAR_CIDR,
    FAR_IDENTITY,
    FAR_NODE,
    IS_REPLY,
    NODE,
    OWN_NODE,
    REDIRECT,
    REMOTE_NODE,
    ROUTER,
    TUNNEL,
    WORLD,
    WORLD4,
    WORLD6,
    Node,
    address,
)
from tests.bpf.packets import ACK, RST, SYN, icmp, tcp, udp, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root
OUTER, OTHER, STRANGER = "fd00:9::2", "fd00:9::3", "fd00:9::77"
FORGED_SOURCE, UNKNOWN_NODE, BAD_IDENTITY, FORGED_ERROR = 132, 172, 171, 134


@pytest.fixture
def tunnelled(make_node: Callable[..., Node]) -> Node:
    node = make_node("overlay_test", cfg_pod_mtu=1430)
    for version in (4, 6):
        node.ipcache(FAR[version], FAR_IDENTITY, flags=TUNNEL, tunnel=OUTER)
        node.ipcache(FAR_CIDR[version], WORLD4 if version == 4 else WORLD6, flags=TUNNEL, tunnel=OUTER)
        node.ipcache(FAR_NODE[version], REMOTE_NODE, flags=NODE, tunnel=OUTER)
    node.ipcache(OTHER, REMOTE_NODE, flags=NODE, tunnel=OTHER)
    return node


def test_there_and_back(tunnelled: Node, version: int) -> None:
    one = tunnelled.pods[0]

    there = tunnelled.overlay(tcp(FAR[version], one.ip[version], 4000, 80, SYN), outer=OUTER)
    back = tunnelled.pod(one, tcp(one.ip[version], FAR[version], 80, 4000, SYN | ACK))

    assert there.verdict == back.verdict == REDIRECT
    assert back.events[0]["flags"] & IS_REPLY
    half = tunnelled.row(version)["half"]
    assert bytes(half[0]["from_tunnel"]["outer"]["b"]) == bytes(half[1]["to_tunnel"]["remote"]["b"]) == address(OUTER)


def test_13_a_forged_outer_source_moves_nothing(tunnelled: Node, version: int) -> None:
    one = tunnelled.pods[0]
    ends = FAR[version], one.ip[version], 4000, 80
    assert tunnelled.overlay(tcp(*ends, SYN), outer=OUTER).passed
    assert tunnelled.pod(one, tcp(*ends[1::-1], 80, 4000, SYN | ACK)).passed
    before = tunnelled.row(version).tobytes()

    for flags in (RST, ACK, SYN):
        for outer, reason in ((OTHER, FORGED_SOURCE), (STRANGER, UNKNOWN_NODE), ("192.168.9.77", UNKNOWN_NODE)):
            assert tunnelled.overlay(tcp(*ends, flags), outer=outer).reason == reason
    asked = tcp(*ends[1::-1], 80, 4000, SYN | ACK, bytes(40))
    kind = (3, 4) if version == 4 else (2, 0)
    forged = icmp(FAR[version], one.ip[version], *kind, struct.pack("!I", 1280), asked[:68])
    assert tunnelled.overlay(forged, outer=OTHER).reason == FORGED_SOURCE
    assert tunnelled.row(version).tobytes() == before
    assert tunnelled.overlay(forged, outer=OUTER).passed
    sent = tcp(*ends[1::-1], 80, 4000, ACK)
    router = {4: "10.244.3.1", 6: OTHER}[version]  # another node finds fault with what never went its way
    tunnelled.ipcache(router, REMOTE_NODE, flags=NODE, tunnel=OTHER)
    error = unreachable(router, one.ip[version], sent)
    assert tunnelled.overlay(error, outer=OTHER, vni=REMOTE_NODE).reason == FORGED_ERROR


def test_13_inner_sources_and_vnis_that_cannot_be(tunnelled: Node, version: int) -> None:
    one, two, _ = tunnelled.pods
    target = one.ip[version]
    for source in (OWN_NODE[version], ROUTER[version], two.ip[version], target):
        for vni in (FAR_IDENTITY, REMOTE_NODE, 2):
            assert tunnelled.overlay(udp(source, target, 1, 2), vni=vni, outer=OUTER).reason == FORGED_SOURCE
    for vni in (0, 1):
        assert tunnelled.overlay(udp(FAR[version], target, 1, 2), vni=vni, outer=OUTER).reason == BAD_IDENTITY
    assert tunnelled.overlay(udp(WORLD[version], target, 1, 2), vni=2, outer=STRANGER).reason == UNKNOWN_NODE
    assert tunnelled.overlay(udp(WORLD[version], target, 1, 2), vni=FAR_IDENTITY, outer=OUTER).reason == FORGED_SOURCE
    assert tunnelled.overlay(udp(WORLD[version], target, 1, 2), vni=2, outer=OUTER).passed
    assert tunnelled.overlay(udp(OTHER, one.ip[6], 1, 2), vni=REMOTE_NODE, outer=OUTER).reason == FORGED_SOURCE


def test_13_a_node_may_send_from_any_address_that_it_has(tunnelled: Node, version: int) -> None:
    """The kernel chooses one; which its tunnel ends at is another question."""
    one = tunnelled.pods[0]
    asked = udp(one.ip[version], FAR[version], 4000, 53)
    second = "192.168.9.22"
    assert tunnelled.pod(one, asked).passed
    assert tunnelled.overlay(udp(FAR[version], one.ip[version], 1, 2), outer=second).reason == UNKNOWN_NODE
    tunnelled.ipcache(second, REMOTE_NODE, flags=NODE, tunnel=OUTER)

    assert tunnelled.overlay(udp(FAR[version], one.ip[version], 1, 2), outer=second).passed
    assert tunnelled.overlay(unreachable(FAR[version], one.ip[version], asked), outer=second).passed


def test_18_over_ipv6_there_is_less_room(tunnelled: Node, version: int) -> None:
    one = tunnelled.pods[0]
    head = 28 if version == 4 else 48

    assert tunnelled.pod(one, udp(one.ip[version], FAR[version], 1, 2, bytes(1430 - head))).passed
    assert tunnelled.pod(one, udp(one.ip[version], FAR[version], 1, 2, bytes(1431 - head))).reason == 136
