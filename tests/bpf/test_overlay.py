# SPDX-License-Identifier: Apache-2.0
"""What comes out of the tunnel: identity by VNI, and only from the node that the sender lives on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bpf.node import (
    FAR,
    FAR_IDENTITY,
    FAR_NODE,
    FAR_OUTER,
    FLOW,
    INGRESS,
    IS_REPLY,
    NODE,
    OK,
    OWN_NODE,
    REDIRECT,
    REMOTE_NODE,
    ROUTER,
    SHOT,
    TO_OVERLAY,
    TUNNEL,
    WORLD,
    WORLD4,
    WORLD6,
    Level,
    Node,
)
from tests.bpf.packets import ACK, SYN, tcp, udp

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root
PACKET_HOST = 0
WORLD_ON_THE_WIRE = 2


@pytest.fixture
def tunnelled(make_node: Callable[..., Node]) -> Node:
    return make_node("overlay_test")


def test_a_far_pod_reaches_a_local_one(tunnelled: Node, version: int) -> None:
    one = tunnelled.pods[0]

    result = tunnelled.overlay(tcp(FAR[version], one.ip[version], 4000, 80, SYN))
    back = tunnelled.pod(one, tcp(one.ip[version], FAR[version], 80, 4000, SYN | ACK))

    assert result.verdict == back.verdict == REDIRECT
    assert (result.read.eth_dst, result.read.eth_src) == (one.mac, one.host_mac)
    assert result.packet_type == PACKET_HOST  # a tunnel's frames are for somebody else's MAC
    assert result.read.ttl == 64  # the sender's node took one
    assert result.events[0]["src_identity"] == FAR_IDENTITY
    assert back.events[0]["flags"] & IS_REPLY
    half = tunnelled.row(version)["half"][1]
    assert half["to_tunnel"]["vni"] == one.identity


def test_the_wire_says_who_before_ipcache_does(tunnelled: Node, version: int) -> None:
    one = tunnelled.pods[0]
    unknown = {4: "10.244.2.99", 6: "fd00:10:244:2::99"}[version]

    result = tunnelled.overlay(udp(unknown, one.ip[version], 4000, 53), vni=3001)

    assert result.events[0]["src_identity"] == 3001


def test_remote_nodes_and_world_are_looked_up(tunnelled: Node, version: int) -> None:
    one = tunnelled.pods[0]
    router = {4: "10.244.2.1", 6: "fd00:10:244:2::1"}[version]
    tunnelled.ipcache(router, 33554433, flags=TUNNEL, tunnel="192.168.9.2")

    node = tunnelled.overlay(udp(router, one.ip[version], 4000, 53), vni=REMOTE_NODE)
    world = tunnelled.overlay(udp(WORLD[version], one.ip[version], 4000, 53), vni=2)

    assert node.events[0]["src_identity"] == 33554433
    assert world.events[0]["src_identity"] == (WORLD4 if version == 4 else WORLD6)


@pytest.mark.parametrize("vni", [0, 1])
def test_nobody_is_host_over_the_wire(tunnelled: Node, version: int, vni: int) -> None:
    result = tunnelled.overlay(udp(FAR[version], tunnelled.pods[0].ip[version], 4000, 53), vni=vni)

    assert (result.verdict, result.reason) == (SHOT, 171)


def test_13_a_pod_comes_only_from_its_own_node(tunnelled: Node, version: int) -> None:
    one = tunnelled.pods[0]
    tunnelled.ipcache("192.168.9.3", REMOTE_NODE, flags=NODE)

    foreign = tunnelled.overlay(udp(FAR[version], one.ip[version], 4000, 53), outer="192.168.9.3")
    ours = tunnelled.overlay(udp(OWN_NODE[version], one.ip[version], 4000, 53), vni=REMOTE_NODE)

    assert (foreign.verdict, foreign.reason) == (SHOT, 132)
    assert (ours.verdict, ours.reason) == (SHOT, 132)
    for source in (OWN_NODE, ROUTER, tunnelled.pods[1].ip):
        assert tunnelled.overlay(udp(source[version], one.ip[version], 4000, 53), vni=WORLD_ON_THE_WIRE).reason == 132


def test_13_only_nodes_speak_through_the_tunnel(tunnelled: Node, version: int) -> None:
    one = tunnelled.pods[0]

    for source, vni in ((FAR[version], FAR_IDENTITY), (WORLD[version], 2)):
        result = tunnelled.overlay(udp(source, one.ip[version], 4000, 53), vni=vni, outer="192.168.9.77")
        assert (result.verdict, result.reason) == (SHOT, 172)


def test_13_the_world_through_the_tunnel_is_the_world(tunnelled: Node, version: int) -> None:
    one = tunnelled.pods[0]

    assert tunnelled.overlay(udp(WORLD[version], one.ip[version], 4000, 53), vni=2).passed
    assert tunnelled.overlay(udp(WORLD[version], one.ip[version], 4001, 53), vni=FAR_IDENTITY).reason == 132
    assert tunnelled.overlay(udp(WORLD[version], one.ip[version], 4001, 53), vni=REMOTE_NODE).reason == 132


def test_13_a_node_speaks_for_itself(tunnelled: Node) -> None:
    one = tunnelled.pods[0]
    tunnelled.ipcache("192.168.9.3", REMOTE_NODE, flags=NODE)
    question = udp(FAR_NODE[4], one.ip[4], 4000, 53)

    assert tunnelled.overlay(question, vni=REMOTE_NODE).passed
    assert tunnelled.overlay(udp("192.168.9.3", one.ip[4], 4000, 53), vni=REMOTE_NODE).reason == 132
    assert tunnelled.overlay(question, vni=REMOTE_NODE, outer="192.168.9.3").reason == 132


def test_13_a_node_has_more_addresses_than_it_tunnels_from(tunnelled: Node, version: int) -> None:
    one = tunnelled.pods[0]
    other = {4: "172.16.0.2", 6: FAR_NODE[6]}[version]
    question = udp(other, one.ip[version], 4000, 53)
    tunnelled.ipcache(other, REMOTE_NODE, flags=NODE)
    assert tunnelled.overlay(question, vni=REMOTE_NODE).reason == 132
    tunnelled.ipcache(other, REMOTE_NODE, flags=NODE, tunnel=FAR_OUTER)

    assert tunnelled.overlay(question, vni=REMOTE_NODE).passed


def test_a_pod_reaches_another_node_through_the_tunnel(tunnelled: Node, version: int) -> None:
    one = tunnelled.pods[0]
    tunnelled.ipcache(FAR_NODE[version], REMOTE_NODE, flags=NODE, tunnel=FAR_OUTER)

    result = tunnelled.pod(one, udp(one.ip[version], FAR_NODE[version], 4000, 53))
    back = tunnelled.overlay(udp(FAR_NODE[version], one.ip[version], 53, 4000), vni=REMOTE_NODE)

    assert result.events[0]["flags"] & TO_OVERLAY
    assert result.events[0]["dst_identity"] == REMOTE_NODE
    assert back.passed
    assert back.events[0]["flags"] & IS_REPLY


def test_5_an_answer_goes_to_who_is_there_now(tunnelled: Node, version: int) -> None:
    """A far pod asked; another has its address now, and does not ask: the one that streams on is judged anew."""
    one = tunnelled.pods[0]
    tunnelled.vector(FAR_IDENTITY, 1)
    tunnelled.policy(one, INGRESS, default=tunnelled.port_class(Level(bits=(1,))))
    one.flags |= 4
    tunnelled.plug(one)  # what it sends of its own is denied
    assert tunnelled.overlay(udp(FAR[version], one.ip[version], 4000, 53)).passed
    stream = udp(one.ip[version], FAR[version], 53, 4000)
    assert tunnelled.pod(one, stream).passed
    tunnelled.ipcache(FAR[version], 3999, flags=TUNNEL, tunnel=FAR_OUTER)
    tunnelled.bump()

    assert tunnelled.pod(one, stream).reason == 133


def test_a_pod_cannot_speak_the_tunnels_protocol(tunnelled: Node, version: int) -> None:
    one, two, _ = tunnelled.pods

    for target in (OWN_NODE, FAR_NODE, WORLD):
        assert tunnelled.pod(one, udp(one.ip[version], target[version], 4000, 8472)).reason == 170
    assert tunnelled.pod(one, udp(one.ip[version], two.ip[version], 4000, 8472)).passed


def test_for_this_node_it_goes_up_the_stack_and_for_nobody_nowhere(tunnelled: Node, version: int) -> None:
    nobody = {4: "10.244.1.99", 6: "fd00:10:244:1::99"}[version]

    up = tunnelled.overlay(tcp(FAR[version], ROUTER[version], 4000, 22, SYN))
    gone = tunnelled.overlay(tcp(FAR[version], nobody, 4000, 22, SYN))
    through = tunnelled.overlay(tcp(FAR[version], FAR_NODE[version], 4000, 22, SYN))

    assert up.verdict == OK
    assert up.packet_type == PACKET_HOST
    assert (gone.verdict, gone.reason) == (SHOT, 151)
    assert (through.verdict, through.reason) == (SHOT, 151)


def test_another_vni_for_the_same_flow_is_judged_again(tunnelled: Node, version: int) -> None:
    one = tunnelled.pods[0]
    from_far = udp(FAR[version], one.ip[version], 4000, 53)
    tunnelled.overlay(from_far)
    nonce = int(tunnelled.row(version)["nonce"])

    assert tunnelled.overlay(from_far).passed
    assert int(tunnelled.row(version)["nonce"]) == nonce
    result = tunnelled.overlay(from_far, vni=3999)

    row = tunnelled.row(version)
    assert result.passed
    assert int(row["nonce"]) != nonce
    assert (row["src_identity"], row["half"][0]["from_tunnel"]["vni"]) == (3999, 3999)
    assert FLOW not in result.types
