# SPDX-License-Identifier: Apache-2.0
"""Real frames over real devices: a test run makes no tags, which are off before a program runs, and no redirects."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import TYPE_CHECKING

import pytest

from ciliumpy.bpf.links import attach_tcx
from ciliumpy.datapath.hooks import choose
from ciliumpy.net import filters
from tests.bpf import packets
from tests.bpf.node import GATEWAY_MAC, INGRESS, NEXT, NODE_MAC, OWN_NODE, SAME_NETNS, WORLD, Node
from tests.bpf.packets import udp

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
WAIT_S = 5.0
SOL_PACKET, PACKET_VNET_HDR = 263, 15


@contextlib.contextmanager
def attached(node: Node, program: str, device: str) -> Iterator[socket.socket]:
    """The other end of a device's cable, the program on it."""
    where = node.devices[device], "ingress"
    with contextlib.ExitStack() as undo:
        if choose("auto") == "tcx":
            undo.enter_context(attach_tcx(node.object.programs[program], *where, None))
        else:
            filters.put(*where, node.object.programs[program].fd, "ciliumpy-test")
            undo.callback(filters.remove, *where, "ciliumpy-test")
        cable = undo.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        cable.bind((f"{device}p", 0))
        yield cable


def tagged(payload: bytes, dst: str, src: str, number: int) -> bytes:
    kind = packets.ETH_IPV6 if payload[0] >> 4 == 6 else packets.ETH_IPV4
    return packets.eth(dst, src, packets.ETH_VLAN, struct.pack("!HH", number, kind) + payload)


def heard(node: Node, count: int) -> list[tuple[int, int]]:
    """(port, drop reason) of so many events, and of those that come with the last."""
    found: list[tuple[int, int]] = []
    until = time.monotonic() + WAIT_S
    while len(found) < count:
        assert time.monotonic() < until, found
        found += [(int(one["dport"]), int(one["reason"])) for one in node.rings.consume()]
    return found


def test_17_a_pod_sends_no_tags(node: Node, version: int) -> None:
    one, two, _ = node.pods
    with attached(node, "pod", "lxc1") as cable:
        for number in (0, 5):
            cable.send(tagged(udp(one.ip[version], two.ip[version], 9, 53), one.host_mac, one.mac, number))
        seen = heard(node, 2)

    assert seen == [(0, 182), (0, 182)]  # nobody looks into it


def test_17_on_the_network_a_tag_without_a_number_hides_nothing(node: Node, version: int) -> None:
    one = node.pods[0]
    forged, honest = (udp(source[version], one.ip[version], 9, port) for source, port in ((OWN_NODE, 1), (WORLD, 2)))
    with attached(node, "netdev", "eth0") as cable:
        for payload, number in ((forged, 5), (forged, 0), (honest, 0)):
            cable.send(tagged(payload, NODE_MAC, "02:00:00:00:00:01", number))
        seen = heard(node, 2)

    assert seen == [(1, 132), (2, 0)]  # number 5 is another network's


def test_what_a_switch_floods_is_nobodys_business(node: Node, version: int) -> None:
    """A frame for another machine is the stack's to drop: a node that it never was for would tell it as forged."""
    for source in (OWN_NODE, WORLD):
        flooded = udp(source[version], node.pods[0].ip[version], 9, 53)
        result = node.netdev(flooded, to="02:00:00:00:00:77")
        assert (result.verdict, result.events.size) == (NEXT, 0)


def test_17_a_tag_inside_the_tunnel_ends_the_packet(node: Node, version: int) -> None:
    inner = udp(WORLD[version], node.pods[0].ip[version], 9, 53)
    with attached(node, "overlay", "vxlan") as cable:
        cable.send(tagged(inner, GATEWAY_MAC, "02:00:00:00:00:01", 5))
        cable.send(node.framed(inner, GATEWAY_MAC, "02:00:00:00:00:01"))
        seen = heard(node, 1)

    assert seen == [(53, 147)]  # the other came without a tunnel's key, and that far
    assert node.metric(166, INGRESS) == 1


def test_17_a_target_in_the_nodes_own_namespace_gets_its_packets(node: Node, version: int) -> None:
    """There is no border to cross into it: what would go across is lost."""
    one, two, _ = node.pods
    two.flags |= SAME_NETNS
    node.plug(two)
    with attached(node, "pod", "lxc1") as cable, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as target:
        target.bind(("lxc2p", packets.ETH_IPV6 if version == 6 else packets.ETH_IPV4))
        target.settimeout(WAIT_S)
        cable.send(node.framed(udp(one.ip[version], two.ip[version], 9, 53), one.host_mac, one.mac))

        assert packets.Read(target.recv(2000)).eth_dst == two.mac


def test_headers_that_lie_in_pages_are_found(node: Node, version: int) -> None:
    """A sender may leave what it likes in pages; a frame of more than one page does, if its sender says so."""
    one, two, _ = node.pods
    nothing_linear = struct.pack("<BBHHHH", 0, 0, packets.ETH_LENGTH, 0, 0, 0)  # struct virtio_net_hdr
    with attached(node, "pod", "lxc1") as cable:
        cable.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        sent = udp(one.ip[version], two.ip[version], 9, 53, bytes(8000))
        cable.send(nothing_linear + node.framed(sent, one.host_mac, one.mac))
        seen = heard(node, 1)

    assert seen == [(53, 0)]
