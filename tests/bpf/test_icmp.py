# SPDX-License-Identifier: Apache-2.0
"""Time exceeded, and ICMP errors about flows: related only if the flow exists and its packet was the receiver's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bpf import packets
from tests.bpf.node import (
    DROP,
    EGRESS,
    FAR,
    INGRESS,
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


def test_forged_errors_are_judged_like_any_packet(node: Node, version: int) -> None:
    one, two, three = node.pods
    node.policy(one, INGRESS)
    asked = udp(one.ip[version], two.ip[version], 4000, 53)
    assert node.pod(one, asked).passed
    never_sent = udp(one.ip[version], two.ip[version], 4001, 53)
    anothers = udp(three.ip[version], two.ip[version], 4000, 53)
    assert node.pod(three, anothers).passed

    assert node.pod(two, unreachable(two.ip[version], one.ip[version], never_sent)).reason == 133
    assert node.pod(two, unreachable(two.ip[version], one.ip[version], anothers)).reason == 133
    assert node.pod(two, unreachable(two.ip[version], one.ip[version], asked)[:-4]).reason == 133  # cut off


def test_a_pod_tells_of_packets_that_were_for_itself(node: Node, version: int) -> None:
    one, two, three = node.pods
    node.policy(one, INGRESS)
    asked = tcp(one.ip[version], two.ip[version], 4000, 80, SYN)
    assert node.pod(one, asked).passed

    assert node.pod(three, unreachable(three.ip[version], one.ip[version], asked)).reason == 133
    assert node.pod(two, unreachable(two.ip[version], one.ip[version], asked)).passed


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
