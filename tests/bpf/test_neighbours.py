# SPDX-License-Identifier: Apache-2.0
"""ARP and neighbour discovery: the gateway answers, nobody else is on the link."""

from __future__ import annotations

import pytest

from tests.bpf import packets
from tests.bpf.node import NEXT, REDIRECT, ROUTER, SHOT, Node
from tests.bpf.packets import Read

pytestmark = pytest.mark.root


def test_arp_for_the_gateway_is_answered(node: Node) -> None:
    one = node.pods[0]

    result = node.run("pod", packets.arp_request(one.mac, one.ip[4], ROUTER[4]), one.ifindex)

    assert result.verdict == REDIRECT
    read = Read(result.frame)
    assert (read.eth_dst, read.eth_src) == (one.mac, one.host_mac)
    assert result.frame[20:22] == b"\0\2"
    assert result.frame[22:28] == packets.mac(one.host_mac)
    assert result.frame[28:32] == packets.packed(ROUTER[4])
    assert result.frame[32:38] == packets.mac(one.mac)
    assert result.frame[38:42] == packets.packed(one.ip[4])


def test_arp_for_others_and_broken_arp_is_not(node: Node) -> None:
    one, two, _ = node.pods
    good = packets.arp_request(one.mac, one.ip[4], ROUTER[4])
    others = packets.arp_request(one.mac, one.ip[4], two.ip[4])
    reply = good[:20] + b"\0\2" + good[22:]
    odd = good[:18] + b"\7" + good[19:]

    for frame in (others, reply, odd, good[:30]):
        result = node.run("pod", frame, one.ifindex)
        assert result.verdict == SHOT
        assert not len(result.events)
    assert node.run("pod", good, node.devices["eth0"]).verdict == SHOT  # no pod's link


def test_a_solicitation_of_the_gateway_is_answered(node: Node) -> None:
    one = node.pods[0]
    for sender, option in ((one.ip[6], True), (one.ip[6], False), ("fe80::1234", True)):
        frame = packets.neighbour_solicitation(one.mac, sender, ROUTER[6], option=option)

        result = node.run("pod", frame, one.ifindex)

        assert result.verdict == REDIRECT
        read = result.read
        assert (read.eth_dst, read.eth_src) == (one.mac, one.host_mac)
        assert (read.src, read.dst, read.ttl, read.protocol) == (ROUTER[6], sender, 255, packets.ICMPV6)
        assert read.sums_right
        assert read.payload[:2] == b"\x88\0"
        assert read.payload[4] == 0xE0  # router, solicited, override
        assert read.payload[8:24] == packets.packed(ROUTER[6])
        assert read.payload[24:] == b"\2\1" + packets.mac(one.host_mac)
        assert len(result.frame) == 14 + 40 + 32


def test_other_talk_between_neighbours_ends_here_without_a_word(node: Node) -> None:
    one, two, _ = node.pods
    duplicate = packets.neighbour_solicitation(one.mac, "::", one.ip[6])
    other = packets.neighbour_solicitation(one.mac, one.ip[6], two.ip[6])
    far_away = packets.neighbour_solicitation(one.mac, one.ip[6], ROUTER[6], hops=64)
    forged = packets.neighbour_solicitation(one.mac, two.ip[6], ROUTER[6])
    router = node.framed(packets.icmp("fe80::1", "ff02::2", 133), one.host_mac, one.mac)
    advertisement = node.framed(packets.icmp(one.ip[6], two.ip[6], 136, data=bytes(16)), one.host_mac, one.mac)
    redirect = node.framed(packets.icmp(one.ip[6], two.ip[6], 137, data=bytes(32)), one.host_mac, one.mac)
    report = packets.icmp("fe80::1", "ff02::16", 143)
    with_option = packets.ip("fe80::1", "ff02::16", packets.HOPOPTS, bytes([58, 0, 5, 2, 0, 0, 1, 0]) + report[40:])
    group = node.framed(with_option, "33:33:00:00:00:16", one.mac)

    for frame in (duplicate, other, far_away, forged, router, advertisement, redirect, group):
        result = node.run("pod", frame, one.ifindex)
        assert result.verdict == SHOT
        assert not len(result.events)


def test_link_local_is_for_that_only(node: Node) -> None:
    one, two, _ = node.pods

    assert node.pod(one, packets.udp("fe80::1", two.ip[6], 1, 2)).reason == 132


def test_the_nodes_own_neighbours_are_left_alone(node: Node) -> None:
    frame = packets.neighbour_solicitation("02:00:00:00:00:fe", "fd00:9::2", "fd00:9::1")
    arp = packets.arp_request("02:00:00:00:00:fe", "192.168.9.2", "192.168.9.1")

    assert node.run("netdev", frame, node.devices["eth0"]).verdict == NEXT
    assert node.run("netdev", arp, node.devices["eth0"]).verdict == NEXT
