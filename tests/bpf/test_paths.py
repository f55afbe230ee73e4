# SPDX-License-Identifier: Apache-2.0
"""Where packets go: to a pod, into the tunnel, to the host, along the routes; and what they look like then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bpf import packets
from tests.bpf.node import (
    EGRESS,
    FAR,
    FAR_IDENTITY,
    FAR_NODE,
    FLOW,
    HOST,
    INGRESS,
    IS_IPV6,
    IS_REPLY,
    NEXT,
    NOT_ASKED,
    NOT_ENFORCED,
    NOWHERE,
    OK,
    OWN_NODE,
    REDIRECT,
    REMOTE_NODE,
    ROUTER,
    SHOT,
    TO_HOST,
    TO_LOCAL,
    TO_NETWORK,
    TO_OVERLAY,
    WORLD,
    WORLD4,
    WORLD6,
)
from tests.bpf.packets import ACK, SYN, tcp, udp

if TYPE_CHECKING:
    from tests.bpf.node import Node

pytestmark = pytest.mark.root


def test_pod_to_pod_on_this_node(node: Node, version: int) -> None:
    one, two, _ = node.pods
    sent = tcp(one.ip[version], two.ip[version], 4000, 80, SYN)

    result = node.pod(one, sent, mark=0xF00)

    assert result.verdict == REDIRECT
    assert (result.read.eth_dst, result.read.eth_src) == (two.mac, two.host_mac)
    assert result.read.ttl == 63
    assert result.read.sums_right
    assert result.mark == 0
    (event,) = result.events
    assert (event["type"], event["src_identity"], event["dst_identity"]) == (FLOW, 1000, 2000)
    assert (event["src_endpoint"], event["dst_endpoint"], event["sport"], event["dport"]) == (1, 2, 4000, 80)
    assert event["flags"] == TO_LOCAL | (IS_IPV6 if version == 6 else 0)
    assert (event["egress"]["verdict"], event["ingress"]["verdict"]) == (NOT_ENFORCED, NOT_ENFORCED)
    assert event["length"] == len(sent)


def test_the_answer_replays_without_a_decision(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.pod(one, tcp(one.ip[version], two.ip[version], 4000, 80, SYN))
    nonce = int(node.row(version)["nonce"])

    result = node.pod(two, tcp(two.ip[version], one.ip[version], 80, 4000, SYN | ACK))
    written = int(node.row(version)["nonce"])
    later = node.pod(one, tcp(one.ip[version], two.ip[version], 4000, 80, ACK, b"x"))

    assert result.verdict == later.verdict == REDIRECT
    assert (result.read.eth_dst, result.read.eth_src) == (one.mac, one.host_mac)
    assert result.read.ttl == 63
    assert result.read.sums_right
    assert written == nonce  # nobody wrote the row again
    (event,) = result.events  # SYN is new in this direction
    assert event["flags"] & IS_REPLY
    assert (event["src_identity"], event["dst_identity"]) == (2000, 1000)
    assert list(event["packets"]) == [1, 1]
    assert not len(later.events)


def test_pod_to_a_pod_of_another_node(node: Node, version: int) -> None:
    one = node.pods[0]

    result = node.pod(one, udp(one.ip[version], FAR[version], 4000, 53))

    assert result.verdict == REDIRECT
    half = node.row(version)["half"][0]
    assert half["to_tunnel"]["vni"] == one.identity
    assert result.events[0]["flags"] & TO_OVERLAY
    assert result.events[0]["dst_identity"] == FAR_IDENTITY
    assert (result.events[0]["egress"]["verdict"], result.events[0]["ingress"]["verdict"]) == (NOT_ENFORCED, NOT_ASKED)
    assert node.metric(0, EGRESS) == 1


def test_pod_to_its_node_goes_up_the_stack(node: Node, version: int) -> None:
    one = node.pods[0]

    for target in (OWN_NODE[version], ROUTER[version]):
        result = node.pod(one, tcp(one.ip[version], target, 4000, 22, SYN))

        assert result.verdict == OK
        assert result.read.ttl == 64
        assert result.events[0]["dst_identity"] == HOST
        assert result.events[0]["flags"] & TO_HOST


def test_pod_to_the_world_and_to_another_node_is_routed(node: Node, version: int) -> None:
    one = node.pods[0]

    world = node.pod(one, udp(one.ip[version], WORLD[version], 4000, 443))
    other = node.pod(one, udp(one.ip[version], FAR_NODE[version], 4000, 443))

    assert world.verdict == other.verdict == REDIRECT
    assert world.events[0]["dst_identity"] == (WORLD4 if version == 4 else WORLD6)
    assert other.events[0]["dst_identity"] == REMOTE_NODE
    assert world.events[0]["flags"] & TO_NETWORK
    assert world.read.ttl == 63
    _, rows = node.rows(version)
    hops = {bytes(row["half"][0]["to_route"]["nexthop"]["b"]) for row in rows}
    assert {hop[-1] for hop in hops} == ({254, 2} if version == 4 else {0x54, 2})


def test_no_route_is_reason_169(node: Node, version: int) -> None:
    one = node.pods[0]

    result = node.pod(one, udp(one.ip[version], NOWHERE[version], 1, 2))

    assert result.verdict == SHOT
    assert result.reason == 169
    assert result.events[0]["ext_error"] == 2  # BPF_FIB_LKUP_RET_UNREACHABLE


def test_an_address_of_the_nodes_that_no_pod_has_is_reason_151(node: Node, version: int) -> None:
    """The routes lead to the host's door, and from there back."""
    one = node.pods[0]
    nobody = {4: "10.244.1.99", 6: "fd00:10:244:1::99"}[version]

    assert node.pod(one, udp(one.ip[version], nobody, 1, 2)).reason == 151
    assert node.host(udp(ROUTER[version], nobody, 1, 2)).reason == 151


def test_host_to_its_pod_and_back(node: Node, version: int) -> None:
    one = node.pods[0]

    result = node.host(tcp(ROUTER[version], one.ip[version], 4000, 80, SYN))
    back = node.pod(one, tcp(one.ip[version], ROUTER[version], 80, 4000, SYN | ACK))

    assert result.verdict == REDIRECT
    assert (result.read.eth_dst, result.read.eth_src) == (one.mac, one.host_mac)
    assert result.read.ttl == 64
    assert result.events[0]["src_identity"] == HOST
    assert back.verdict == OK
    assert back.events[0]["flags"] & IS_REPLY


def test_host_to_a_pod_of_another_node_travels_as_remote_node(node: Node, version: int) -> None:
    result = node.host(udp(ROUTER[version], FAR[version], 4000, 53))

    assert result.verdict == REDIRECT
    assert node.row(version)["half"][0]["to_tunnel"]["vni"] == REMOTE_NODE


def test_world_to_a_pod_and_back(node: Node, version: int) -> None:
    one = node.pods[0]

    result = node.netdev(tcp(WORLD[version], one.ip[version], 4000, 80, SYN))
    back = node.pod(one, tcp(one.ip[version], WORLD[version], 80, 4000, SYN | ACK))

    assert result.verdict == REDIRECT
    assert result.read.ttl == 63
    assert result.read.sums_right
    assert result.events[0]["src_identity"] == (WORLD4 if version == 4 else WORLD6)
    assert back.verdict == REDIRECT
    assert back.events[0]["flags"] & TO_NETWORK


def test_what_is_not_for_a_pod_is_the_stacks(node: Node, version: int) -> None:
    vxlan = node.netdev(udp(FAR_NODE[version], OWN_NODE[version], 5555, 8472))
    ssh = node.netdev(tcp(WORLD[version], OWN_NODE[version], 5555, 22, SYN))
    fragment = node.netdev(packets.ip(WORLD[version], OWN_NODE[version], 50, b"x" * 40))

    assert [one.verdict for one in (vxlan, ssh, fragment)] == [NEXT, NEXT, NEXT]
    assert not len(vxlan.events) + len(ssh.events) + len(fragment.events)
    assert len(node.rows(version)[0]) == 0
    assert node.metric(0, INGRESS) == 0
