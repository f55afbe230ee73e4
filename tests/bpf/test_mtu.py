# SPDX-License-Identifier: Apache-2.0
"""Guard 18: what does not fit is refused and its sender told; the size of each segment counts, not their sum."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.bpf.node import FAR, FAR_NODE, NEXT, OWN_NODE, REDIRECT, ROUTER, SHOT, TUNNEL, WORLD, Node, Result, u32
from tests.bpf.packets import ACK, PSH, SYN, echo, fragment, icmp, tcp, udp, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root
TOO_BIG = 136
POD_MTU = 1450
RTAX_MTU = 2
HEADERS = {4: 28, 6: 48}  # IP and UDP


def sized(source: str, target: str, version: int, length: int) -> bytes:
    return udp(source, target, 4000, 53, bytes(length - HEADERS[version]))


def told(result: Result, version: int) -> int:
    """The MTU in the answer."""
    payload = result.read.payload
    assert tuple(payload[:2]) == ((3, 4) if version == 4 else (2, 0))
    assert result.read.sums_right
    return int(struct.unpack("!I", payload[4:8])[0])


def lowest(node: Node) -> int:
    return int(node.maps["cp_pathmtu_v1"].lookup(u32(0)))


def too_big(router: str, target: str, mtu: int, about: bytes) -> bytes:
    kind = (3, 4) if about[0] >> 4 == 4 else (2, 0)
    return icmp(router, target, *kind, struct.pack("!I", mtu), about[: 120 if kind[0] == 2 else 60])


def test_18_the_tunnel_takes_what_pods_may_send_and_no_more(node: Node, version: int) -> None:
    one = node.pods[0]
    assert node.pod(one, sized(one.ip[version], FAR[version], version, POD_MTU)).verdict == REDIRECT
    for _ in range(2):  # decided and replayed
        sent = sized(one.ip[version], FAR[version], version, POD_MTU + 1)
        result = node.pod(one, sent)

        assert (result.verdict, result.reason) == (REDIRECT, TOO_BIG)
        assert told(result, version) == POD_MTU
        read = result.read
        assert (read.src, read.dst, read.eth_dst) == (ROUTER[version], one.ip[version], one.mac)
        assert read.payload[8:60] == sent[:52]


def test_18_the_host_is_told_as_well(node: Node, version: int) -> None:
    """From the address it spoke to: its stack believes nothing that seems to come from itself."""
    result = node.host(sized(ROUTER[version], FAR[version], version, POD_MTU + 1))

    assert (result.reason, told(result, version)) == (TOO_BIG, POD_MTU)
    assert (result.read.src, result.read.dst) == (FAR[version], ROUTER[version])


def test_18_neighbours_and_the_stack_take_any_size(node: Node, version: int) -> None:
    one, two, _ = node.pods
    for target in (two.ip[version], OWN_NODE[version]):
        assert node.pod(one, sized(one.ip[version], target, version, 3000)).passed
    assert node.netdev(sized(WORLD[version], one.ip[version], version, 1500)).passed


@pytest.mark.parametrize("flags", [PSH | ACK, SYN])
def test_18_of_segments_each_counts(node: Node, version: int, flags: int) -> None:
    one = node.pods[0]
    head = HEADERS[version] + 12
    data = tcp(one.ip[version], FAR[version], 4000, 80, flags, bytes(3000))
    frame = node.framed(data, one.host_mac, one.mac)

    for size, fits in ((POD_MTU - head, True), (POD_MTU - head + 1, False)):
        result = node.run("pod", frame, one.ifindex, gso_size=size)
        assert result.reason == (0 if fits else TOO_BIG)
        if not fits:
            assert told(result, version) == POD_MTU


def test_no_answer_about_errors_and_later_fragments(node: Node, version: int) -> None:
    one = node.pods[0]
    whole = udp(one.ip[version], FAR[version], 1, 53, bytes(4000))
    assert node.pod(one, fragment(whole, 0, 512)).passed
    later = node.pod(one, fragment(whole, 512))
    assert (later.verdict, later.reason) == (SHOT, TOO_BIG)

    asked = udp(FAR[version], one.ip[version], 4000, 53, bytes(2000))
    error = icmp(one.ip[version], FAR[version], 3 if version == 4 else 1, 3, data=asked)
    result = node.pod(one, error)
    assert (result.verdict, result.reason) == (SHOT, TOO_BIG)


def test_a_router_that_tells_the_node_is_heard(node: Node, version: int) -> None:
    """The stack takes note of it; from then on it is asked about what is larger."""
    outer = udp(OWN_NODE[version], FAR_NODE[version], 5555, 8472, bytes(1400))
    for mtu, heard in ((1400, 1330), (1450, 1330), (900, 830), (10, 482)):
        result = node.netdev(too_big(WORLD[version], OWN_NODE[version], mtu, outer))
        assert (result.verdict, lowest(node)) == (NEXT, heard)
        assert not len(result.events)


def test_only_what_routers_tell_this_node_is_heard(node: Node, version: int) -> None:
    one = node.pods[0]
    outer = udp(OWN_NODE[version], FAR_NODE[version], 5555, 8472)
    asked = udp(one.ip[version], WORLD[version], 4000, 53)
    assert node.pod(one, asked).passed

    assert node.netdev(too_big(OWN_NODE[version], OWN_NODE[version], 900, outer)).reason == 132
    assert node.netdev(unreachable(WORLD[version], OWN_NODE[version], outer)).passed
    assert node.netdev(too_big(WORLD[version], FAR_NODE[version], 900, outer)).passed
    assert node.netdev(too_big(WORLD[version], one.ip[version], 900, asked)).passed
    assert node.pod(one, too_big(one.ip[version], OWN_NODE[version], 900, outer)).reason == 134
    assert lowest(node) == 0


def test_a_narrow_way_is_known_by_the_routes(make_node: Callable[..., Node], version: int) -> None:
    """A route with an MTU of its own: its first packet tells, later large ones are measured, to the tunnel too."""
    from pyroute2 import IPRoute

    node = make_node()
    one = node.pods[0]
    gateway = {4: "192.168.9.254", 6: "fd00:9::254"}[version]
    narrow = {4: "203.0.113.128/25", 6: "2001:db8:aa::/48"}[version]
    far_node = {4: "203.0.113.129", 6: "2001:db8:aa::2"}[version]
    target = {4: "203.0.113.130", 6: "2001:db8:aa::3"}[version]
    overhead = 50 if version == 4 else 70
    with IPRoute() as routes:
        routes.route(
            "add",
            dst=narrow,
            gateway=gateway,
            metrics={"mtu": 1400, "lock": 1 << RTAX_MTU},
            family=2 if version == 4 else 10,
        )
        try:
            assert node.pod(one, sized(one.ip[version], target, version, 100)).passed
            assert lowest(node) == 1400
            assert node.pod(one, sized(one.ip[version], target, version, 1400)).passed
            result = node.pod(one, sized(one.ip[version], target, version, 1401))
            assert (result.reason, told(result, version)) == (TOO_BIG, 1400)

            node.ipcache(FAR[version], 3000, flags=TUNNEL, tunnel=far_node)
            fits = 1400 - overhead
            node.maps["cp_pathmtu_v1"].update(u32(0), u32(fits))
            assert node.pod(one, sized(one.ip[version], FAR[version], version, fits)).passed
            result = node.pod(one, sized(one.ip[version], FAR[version], version, fits + 1))
            assert (result.reason, told(result, version)) == (TOO_BIG, fits)
            assert node.pod(one, sized(one.ip[version], WORLD[version], version, 1450)).passed
        finally:
            routes.route("del", dst=narrow, gateway=gateway, family=2 if version == 4 else 10)


def test_a_large_echo_is_answered_too(node: Node, version: int) -> None:
    one = node.pods[0]
    assert node.pod(one, echo(one.ip[version], FAR[version], 5)).passed

    assert node.pod(one, echo(one.ip[version], FAR[version], 5, data=bytes(1600))).reason == TOO_BIG
