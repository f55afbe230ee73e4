# SPDX-License-Identifier: Apache-2.0
"""Time exceeded, and ICMP errors about flows: related only if the flow exists and its packet was the receiver's."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.bpf import packets
from tests.bpf.node import (
    DROP,
    EGRESS,
    FAR,
    FAR_NODE,
    INGRESS,
    NODE,
    OK,
    OWN_NODE,
    REDIRECT,
    ROUTER,
    SHOT,
    TUNNEL,
    WORLD,
    Level,
    Node,
)
from tests.bpf.packets import ACK, SYN, echo, tcp, udp, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root
FORGED = 134


@pytest.mark.parametrize("size", [4, 400])
def test_time_exceeded_goes_back_to_the_pod(node: Node, version: int, size: int) -> None:
    one, two, _ = node.pods
    sent = udp(one.ip[version], two.ip[version], 33000, 33434, b"x" * size, ttl=1)

    result = node.pod(one, sent)

    assert result.verdict == REDIRECT
    read = result.read
    assert (read.eth_dst, read.eth_src) == (one.mac, one.host_mac)
    assert (read.src, read.dst) == (ROUTER[version], one.ip[version])
    assert tuple(read.payload[:2]) == ((11, 0) if version == 4 else (3, 0))
    assert read.sums_right
    quoted = read.payload[8:]
    assert quoted.rstrip(b"\0") == sent[: len(quoted)].rstrip(b"\0")
    assert len(quoted) >= packets.IP_HEADER[version] + 8
    assert [int(event["reason"]) for event in result.events if event["type"] == DROP] == [196]
    assert node.metric(0, EGRESS) == 0


def test_time_is_exceeded_on_replay_too(node: Node, version: int) -> None:
    one = node.pods[0]
    for target in (node.pods[1].ip[version], FAR[version], WORLD[version]):
        assert node.pod(one, udp(one.ip[version], target, 1, 2)).passed

        result = node.pod(one, udp(one.ip[version], target, 1, 2, ttl=1))

        assert result.reason == 196
        assert result.read.dst == one.ip[version]


def test_what_goes_up_the_stack_keeps_its_last_hop(node: Node, version: int) -> None:
    one = node.pods[0]

    result = node.pod(one, udp(one.ip[version], OWN_NODE[version], 1, 2, ttl=1))

    assert result.verdict == OK
    assert result.read.ttl == 1


def test_no_error_about_an_error(node: Node, version: int) -> None:
    one, two, _ = node.pods
    inner = udp(two.ip[version], one.ip[version], 1, 2)
    error = unreachable(one.ip[version], two.ip[version], inner)
    dying = error[:8] + b"\1" + error[9:] if version == 4 else error[:7] + b"\1" + error[8:]

    result = node.pod(one, dying)

    assert (result.verdict, result.reason) == (SHOT, 196)


def test_errors_about_a_flow_pass_both_ways(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(one, INGRESS)
    asked, answered = udp(one.ip[version], two.ip[version], 4000, 53), udp(two.ip[version], one.ip[version], 53, 4000)
    assert node.pod(one, asked).passed
    number = node.port_class(Level(everybody=True))
    node.policy(two, INGRESS, {(packets.UDP, 53): number})

    about_the_question = node.pod(two, unreachable(two.ip[version], one.ip[version], asked))
    about_the_answer = node.pod(one, unreachable(one.ip[version], two.ip[version], answered))

    assert about_the_question.verdict == about_the_answer.verdict == REDIRECT
    assert about_the_question.read.eth_dst == one.mac
    assert len(node.rows(version)[0]) == 1


def test_errors_about_echoes_and_tcp(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(one, INGRESS)
    for sent in (echo(one.ip[version], two.ip[version], 9), tcp(one.ip[version], two.ip[version], 4000, 80, SYN)):
        assert node.pod(one, sent).passed
        assert node.pod(two, unreachable(two.ip[version], one.ip[version], sent)).passed


def test_errors_from_a_router_on_the_way(make_node: Callable[..., Node], version: int) -> None:
    node = make_node("overlay_test")
    one = node.pods[0]
    node.policy(one, INGRESS)
    router = {4: "10.244.2.1", 6: "fd00:10:244:2::1"}[version]
    node.ipcache(router, 6, flags=TUNNEL, tunnel="192.168.9.2")
    asked = tcp(one.ip[version], FAR[version], 4000, 80, SYN)
    assert node.pod(one, asked).passed

    never_sent = tcp(one.ip[version], FAR[version], 4001, 80)

    assert node.overlay(unreachable(router, one.ip[version], asked), vni=6).passed
    assert node.overlay(unreachable(router, one.ip[version], never_sent), vni=6).reason == 133


def test_16_an_error_about_what_has_no_row_is_judged_like_any_packet(node: Node, version: int) -> None:
    one, two, _ = node.pods
    about = udp(one.ip[version], two.ip[version], 4001, 53)
    never_sent = unreachable(two.ip[version], one.ip[version], about)
    assert node.pod(two, never_sent).passed
    assert node.pod(node.pods[2], unreachable(node.pods[2].ip[version], one.ip[version], about)).reason == FORGED
    node.policy(one, INGRESS)

    assert node.pod(two, never_sent).reason == 133


@pytest.mark.parametrize("kind", ["unreachable", "too big"])
def test_16_a_forged_error_is_dropped_whatever_policy_says(node: Node, version: int, kind: str) -> None:
    """Nobody's policy is asked: without one, another's path MTU would be anybody's to set."""
    one, two, three = node.pods
    asked = tcp(one.ip[version], two.ip[version], 4000, 80, SYN, bytes(40))
    assert node.pod(one, asked).passed

    def error(source: str, target: str, about: bytes) -> bytes:
        if kind == "unreachable":
            return unreachable(source, target, about)
        number = (3, 4) if version == 4 else (2, 0)
        return packets.icmp(source, target, *number, struct.pack("!I", 1280), about[:68])

    anothers = error(two.ip[version], three.ip[version], asked)  # was not sent by who it goes to
    outsider = error(three.ip[version], one.ip[version], asked)  # was not for who complains
    for sender, packet in ((two, anothers), (three, outsider)):
        result = node.pod(sender, packet)
        assert (result.verdict, result.reason) == (SHOT, FORGED)
    for source in (WORLD[version], FAR_NODE[version]):  # never left this node
        assert node.netdev(error(source, one.ip[version], asked)).reason == FORGED
    assert node.pod(two, error(two.ip[version], one.ip[version], asked)).passed


def test_16_an_error_comes_from_where_its_packet_went(make_node: Callable[..., Node], version: int) -> None:
    node = make_node("overlay_test")
    one, two, _ = node.pods
    node.ipcache("192.168.9.3", 6, flags=NODE)
    node.ipcache({4: "10.244.3.7", 6: "fd00:10:244:3::7"}[version], 3001, flags=TUNNEL, tunnel="192.168.9.3")
    to_world, to_far, to_host = (udp(one.ip[version], target[version], 4000, 53) for target in (WORLD, FAR, OWN_NODE))
    for sent in (to_world, to_far, to_host):
        assert node.pod(one, sent).passed

    def about(sent: bytes, source: dict[int, str]) -> bytes:
        return unreachable(source[version], one.ip[version], sent)

    third = {4: "10.244.3.7", 6: "fd00:10:244:3::7"}
    router = {4: "198.51.100.1", 6: "2001:db8::1"}
    assert node.netdev(about(to_world, router)).passed
    assert node.overlay(about(to_far, FAR)).passed
    assert node.host(about(to_host, OWN_NODE)).passed
    assert node.netdev(about(to_far, router)).reason == FORGED
    assert node.netdev(about(to_host, router)).reason == FORGED
    assert node.overlay(about(to_world, FAR)).reason == FORGED
    assert node.overlay(about(to_host, FAR)).reason == FORGED
    assert node.overlay(about(to_far, third), vni=3001, outer="192.168.9.3").reason == FORGED
    assert node.host(about(to_far, OWN_NODE)).reason == FORGED
    unanswered = udp(WORLD[version], two.ip[version], 4000, 53)
    assert node.netdev(unanswered).passed
    answer = udp(two.ip[version], WORLD[version], 53, 4000)
    assert node.netdev(unreachable(router[version], two.ip[version], answer)).reason == FORGED  # it never answered


def test_16_what_an_error_carries_has_to_be_readable(node: Node, version: int) -> None:
    """A kernel looks for a socket by whatever stands there."""
    one, two, _ = node.pods
    asked = udp(one.ip[version], two.ip[version], 4000, 53, bytes(64))
    assert node.pod(one, asked).passed
    error = unreachable(two.ip[version], one.ip[version], asked)
    later = unreachable(two.ip[version], one.ip[version], packets.fragment(asked, 64))
    foreign = unreachable(two.ip[version], one.ip[version], packets.ip(one.ip[version], two.ip[version], 47, bytes(64)))
    about_itself = unreachable(two.ip[version], one.ip[version], error)

    for packet in (error[:-4], later, foreign, about_itself):
        assert node.pod(two, packet).reason == FORGED


def test_an_error_about_a_fragment_names_its_flow(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(one, INGRESS)
    asked = udp(one.ip[version], two.ip[version], 4000, 53, bytes(1600))
    first = packets.fragment(asked, 0, 1200)
    assert node.pod(one, first).passed
    number = (3, 4) if version == 4 else (2, 0)

    for about, passes in ((first, True), (packets.fragment(asked, 1200), False)):
        error = packets.icmp(two.ip[version], one.ip[version], *number, struct.pack("!I", 1280), about[:80])
        assert node.pod(two, error).passed == passes


def test_16_no_error_is_about_an_error_nor_about_what_has_no_ports(node: Node, version: int) -> None:
    """Whatever policy says: nobody complains of a complaint, and a later fragment's data are not ports."""
    one, two, _ = node.pods
    asked = udp(one.ip[version], two.ip[version], 4000, 53, bytes(600))
    assert node.pod(one, asked).passed
    inner = unreachable(one.ip[version], two.ip[version], udp(two.ip[version], one.ip[version], 53, 4000))
    kind = (3, 3) if version == 4 else (1, 4)
    for about in (inner, packets.fragment(asked, 512)):
        result = node.pod(two, packets.icmp(two.ip[version], one.ip[version], *kind, data=about))
        assert (result.verdict, result.reason) == (SHOT, FORGED)


def test_7_an_error_is_judged_by_the_flow_as_it_is_now(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(one, INGRESS)
    asked = udp(one.ip[version], two.ip[version], 4000, 53)
    assert node.pod(one, asked).passed
    node.policy(two, INGRESS)
    error = unreachable(two.ip[version], one.ip[version], asked)

    assert node.pod(two, error).reason == 133
    node.free(two)
    assert node.pod(two, error).passed
    node.age(version, 2)
    assert node.pod(two, error).reason == 133


def test_an_error_about_an_answer_needs_the_ports_in_its_order(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(two, INGRESS, {(packets.TCP, 80): node.port_class(Level(everybody=True))})
    assert node.pod(one, tcp(one.ip[version], two.ip[version], 4000, 80, SYN)).passed
    answer = tcp(two.ip[version], one.ip[version], 80, 4000, SYN | ACK)
    assert node.pod(two, answer).passed

    assert node.pod(one, unreachable(one.ip[version], two.ip[version], answer)).passed
