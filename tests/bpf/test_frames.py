# SPDX-License-Identifier: Apache-2.0
"""Guard 17 (docs/concepts/datapath.md): frames, headers and addresses that pods have no business with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ciliumpy.bpf.programs import load_object
from tests.bpf import packets
from tests.bpf.node import FAR, INGRESS, NEXT, OWN_NODE, REDIRECT, ROUTER, SHOT, WORLD, Level, Node
from tests.bpf.packets import SYN, TCP, echo, tcp, udp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.root
WORLD_SINGLE = 2  # with one family there is one world


def test_17_vlan_and_foreign_frames(node: Node) -> None:
    one = node.pods[0]
    inner = udp(one.ip[4], node.pods[1].ip[4], 1, 2)
    tagged = packets.eth(one.host_mac, one.mac, packets.ETH_VLAN, b"\0\5\x08\0" + inner)
    other = packets.eth(one.host_mac, one.mac, 0x88CC, bytes(60))

    for frame in (tagged, other):
        result = node.run("pod", frame, one.ifindex)
        assert (result.verdict, result.reason) == (SHOT, 166)


def test_17_a_pod_speaks_only_with_its_own_addresses(node: Node, version: int) -> None:
    one, two, _ = node.pods
    for source in (
        two.ip[version],
        ROUTER[version],
        WORLD[version],
        FAR[version],
        "fe80::1" if version == 6 else "127.0.0.1",
    ):
        result = node.pod(one, udp(source, two.ip[version], 1, 2))
        assert (result.verdict, result.reason) == (SHOT, 132)


def test_17_addresses_of_a_link_are_for_neighbours_alone(make_node: Callable[..., Node]) -> None:
    node = make_node("overlay_test")
    one = node.pods[0]
    near = "fe80::1"
    for payload in (udp(one.ip[6], near, 1, 2), echo(one.ip[6], near, 1), tcp(one.ip[6], near, 1, 2, SYN)):
        assert not node.pod(one, payload).passed
    for send in (node.netdev, node.host, lambda payload: node.overlay(payload, vni=2)):
        result = send(udp(near, one.ip[6], 1, 2))
        assert (result.verdict, result.reason) == (SHOT, 134)
    assert node.netdev(udp(near, OWN_NODE[6], 1, 2)).verdict == NEXT
    for solicited in (near, one.ip[6]):
        assert node.run("pod", packets.neighbour_solicitation(one.mac, solicited, ROUTER[6]), one.ifindex).passed
    assert len(node.rows(6)[0]) == 0


def test_17_an_ipv4_address_in_an_ipv6_header_is_nobodys(node: Node) -> None:
    """The tables have them in this form: an own address would go up the stack, and from there into the world."""
    one, two, _ = node.pods
    for target in (two.ip[4], OWN_NODE[4], FAR[4], WORLD[4]):
        assert node.pod(one, udp(one.ip[6], f"::ffff:{target}", 1, 2)).reason == 134
    assert node.netdev(udp(f"::ffff:{WORLD[4]}", one.ip[6], 1, 2)).reason == 134


def test_17_a_pod_without_an_address_does_not_speak_as_nobody(node: Node) -> None:
    one, two, _ = node.pods
    node.plug(one, families=(4,))

    assert node.pod(one, udp("::", two.ip[6], 1, 2)).reason == 132
    assert node.pod(one, udp(one.ip[4], two.ip[4], 1, 2)).passed


def test_17_extension_headers(node: Node) -> None:
    one, two, _ = node.pods
    ends = one.ip[6], two.ip[6]
    segment = tcp(*ends, 1, 80, SYN)[40:]
    options = bytes([0, 1, 4, 0, 0, 0, 0, 0])

    def chain(kind: int, count: int) -> bytes:
        headers = b"".join(bytes([kind if at < count - 1 else TCP, 0]) + options[2:] for at in range(count))
        return packets.ip(*ends, kind, headers + segment)

    assert node.pod(one, chain(packets.HOPOPTS, 1)).passed
    assert node.pod(one, chain(60, 3)).passed
    assert node.pod(one, chain(60, 4)).reason == 156
    assert node.pod(one, chain(packets.ROUTING, 1)).reason == 156
    long = packets.ip(*ends, 60, bytes([TCP, 2]) + bytes(22) + segment)
    assert node.pod(one, long).reason == 156
    node.policy(two, INGRESS, {(TCP, 81): node.port_class(Level(everybody=True))})
    assert node.pod(one, chain(60, 1)).reason == 133


@pytest.mark.parametrize(("protocol", "reason"), [(47, 137), (2, 137), (50, 137)])
def test_17_protocols_without_ports(node: Node, version: int, protocol: int, reason: int) -> None:
    one, two, _ = node.pods

    assert node.pod(one, packets.ip(one.ip[version], two.ip[version], protocol, bytes(40))).reason == reason


def test_17_short_and_wrong_headers(node: Node, version: int) -> None:
    one, two, _ = node.pods
    ends = one.ip[version], two.ip[version]
    short = node.pod(one, packets.ip(*ends, TCP, bytes(12)))
    good = udp(*ends, 1, 2)
    wrong = node.run("pod", node.framed(good, one.host_mac, one.mac)[:14] + bytes([0x25]) + good[1:], one.ifindex)

    assert short.reason == 135
    assert wrong.reason == 134


def test_17_a_local_target_in_the_nodes_own_namespace_is_not_crossed_into(node: Node, version: int) -> None:
    one, two, _ = node.pods
    two.flags |= 8
    node.plug(two)

    assert node.pod(one, udp(one.ip[version], two.ip[version], 1, 2)).verdict == REDIRECT
    halves = node.row(version)["half"]
    assert (halves[0]["flags"], halves[1]["flags"]) == (1, 0)


def test_14_the_second_lock_drops_everything(node: Node, objects: dict[str, Path], version: int) -> None:
    one, two, _ = node.pods
    frames = [
        node.framed(udp(one.ip[version], two.ip[version], 1, 2), one.host_mac, one.mac),
        packets.arp_request(one.mac, one.ip[4], ROUTER[4]),
        packets.neighbour_solicitation(one.mac, one.ip[6], ROUTER[6]),
    ]
    with load_object(objects["closed"]) as closed:
        assert [closed.programs["closed"].test_run(frame).retval for frame in frames] == [SHOT] * 3


def test_a_family_that_is_off_is_dropped(make_node: Callable[..., Node]) -> None:
    for version, off in ((4, "cfg_ipv4"), (6, "cfg_ipv6")):
        node = make_node(**{off: 0})
        one, two, _ = node.pods
        other = 10 - version

        assert node.pod(one, udp(one.ip[version], two.ip[version], 1, 2)).reason == 166
        assert node.pod(one, udp(one.ip[other], WORLD[other], 1, 2)).events[0]["dst_identity"] == WORLD_SINGLE
