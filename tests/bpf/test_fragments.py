# SPDX-License-Identifier: Apache-2.0
"""Fragments: later ones are judged by what their first one said, and by nothing else."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.bpf import packets
from tests.bpf.node import FAR, FLOW, INGRESS, OK, OWN_NODE, REDIRECT, ROUTER, SHOT, WORLD, Level, Node, Pod
from tests.bpf.packets import ACK, RST, SYN, TCP, UDP, echo, fragment, tcp, udp

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root
NO_FIRST, OVERLAPS, TRUNCATED = 175, 134, 135
BIG = bytes(range(256)) * 6


def only(node: Node, pod: Pod, protocol: int, *ports: int) -> None:
    number = node.port_class(Level(everybody=True))
    node.policy(pod, INGRESS, {(protocol, port): number for port in ports})


def rows(node: Node, version: int) -> int:
    return len(node.maps[f"cp_frag{version}_v1"].items()[0])


def test_17_a_fragment_without_its_first_is_dropped(node: Node, version: int) -> None:
    one, two, _ = node.pods
    whole = udp(one.ip[version], two.ip[version], 1, 53, BIG)
    for piece in (fragment(whole, 512, 1024), fragment(whole, 1024)):
        result = node.pod(one, piece)
        assert (result.verdict, result.reason) == (SHOT, NO_FIRST)
    assert node.pod(one, fragment(whole, 0, 512)).passed
    assert node.pod(one, fragment(whole, 1024, number=10)).reason == NO_FIRST
    assert node.pod(one, fragment(udp(one.ip[version], node.pods[2].ip[version], 1, 53, BIG), 1024)).reason == NO_FIRST


def test_later_fragments_go_where_their_first_went(node: Node, version: int) -> None:
    one, two, _ = node.pods
    for target in (two.ip[version], FAR[version], OWN_NODE[version], WORLD[version]):
        whole = udp(one.ip[version], target, 1, 53, BIG)
        first = node.pod(one, fragment(whole, 0, 512))
        later = [node.pod(one, fragment(whole, 512, 1024)), node.pod(one, fragment(whole, 1024))]

        assert [each.verdict for each in later] == [first.verdict] * 2 == [OK if target in OWN_NODE.values() else 7] * 2
        assert [each.read.eth_dst for each in later] == [first.read.eth_dst] * 2
        assert first.types == [FLOW]
        assert [each.types for each in later] == [[], []]


def test_fragments_come_from_everywhere(make_node: Callable[..., Node], version: int) -> None:
    node = make_node("overlay_test")
    one = node.pods[0]
    only(node, one, UDP, 53)
    for send, source in ((node.overlay, FAR), (node.netdev, WORLD), (node.host, ROUTER)):
        for port, passes in ((53, True), (54, False)):
            whole = udp(source[version], one.ip[version], 1, port, BIG)
            assert [send(fragment(whole, 0, 512)).passed, send(fragment(whole, 512)).passed] == [passes] * 2


def test_a_large_echo_and_its_answer(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(one, INGRESS)
    question = echo(one.ip[version], two.ip[version], 7, data=BIG)
    answer = echo(two.ip[version], one.ip[version], 7, answer=True, data=BIG)
    stranger = echo(two.ip[version], one.ip[version], 8, answer=True, data=BIG)

    for pod, whole in ((one, question), (two, answer)):
        assert [node.pod(pod, fragment(whole, *part)).passed for part in ((0, 512), (512, 1024), (1024,))] == [True] * 3
    assert node.pod(two, fragment(stranger, 0, 512, number=3)).reason == 133
    assert node.pod(two, fragment(stranger, 512, number=3)).reason == NO_FIRST
    assert len(node.rows(version)[0]) == 1


def test_7_later_fragments_are_judged_too(node: Node, version: int) -> None:
    one, two, _ = node.pods
    whole = udp(one.ip[version], two.ip[version], 1, 53, BIG)
    assert node.pod(one, fragment(whole, 0, 512)).passed
    only(node, two, UDP, 54)

    assert node.pod(one, fragment(whole, 512)).reason == 133


def test_what_was_denied_leaves_nothing_for_later_ones(node: Node, version: int) -> None:
    """The number of a datagram is used again, for a port that is denied: its later fragments are not the former's."""
    one, two, _ = node.pods
    only(node, two, UDP, 53)
    allowed, denied = (udp(one.ip[version], two.ip[version], 1, port, BIG) for port in (53, 54))
    assert node.pod(one, fragment(allowed, 0, 512)).passed
    assert node.pod(one, fragment(denied, 0, 512)).reason == 133

    assert node.pod(one, fragment(denied, 512)).reason == NO_FIRST


def test_a_forged_first_neither_makes_nor_spoils_anything(node: Node, version: int) -> None:
    one, two, three = node.pods
    only(node, two, UDP, 53)
    honest, other = (udp(one.ip[version], two.ip[version], 1, port, BIG) for port in (53, 54))
    assert node.pod(three, fragment(honest, 0, 512)).reason == 132
    assert node.pod(one, fragment(honest, 512)).reason == NO_FIRST
    assert node.pod(one, fragment(honest, 0, 512)).passed
    assert node.pod(three, fragment(other, 0, 512)).reason == 132
    assert node.pod(three, fragment(honest, 512)).reason == 132

    assert node.pod(one, fragment(honest, 512)).passed


@pytest.mark.parametrize("size", [8, 16])
def test_a_first_fragment_has_the_whole_header(node: Node, version: int, size: int) -> None:
    """The rest would come with a later one that nobody looks into; what pads the frame is not the packet's."""
    one, two, _ = node.pods
    whole = tcp(one.ip[version], two.ip[version], 1, 80, SYN, BIG)
    tiny = fragment(whole, 0, size)

    assert node.pod(one, tiny).reason == TRUNCATED
    assert node.pod(one, tiny + bytes(40)).reason == TRUNCATED
    assert node.pod(one, fragment(whole, size)).reason == NO_FIRST
    assert rows(node, version) == 0


@pytest.mark.parametrize("begin", [8, 16, 504])
def test_nothing_writes_over_what_was_judged(node: Node, version: int, begin: int) -> None:
    one, two, _ = node.pods
    only(node, two, TCP, 80)
    good, evil = (tcp(one.ip[version], two.ip[version], 1, 80, flags, BIG) for flags in (SYN, ACK))
    assert node.pod(one, fragment(good, 0, 512)).passed

    result = node.pod(one, fragment(evil, begin, 1024))

    assert (result.verdict, result.reason) == (SHOT, OVERLAPS)
    assert node.pod(one, fragment(good, 512)).passed


def test_8_a_question_in_fragments_against_the_flow_is_a_question(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(one, INGRESS)
    assert node.pod(one, tcp(one.ip[version], two.ip[version], 4000, 80, SYN)).passed
    assert node.pod(two, tcp(two.ip[version], one.ip[version], 80, 4000, SYN | ACK)).passed
    against = tcp(two.ip[version], one.ip[version], 80, 4000, SYN, BIG)

    assert node.pod(two, fragment(against, 0, 512)).reason == 133
    assert node.pod(two, fragment(against, 512)).reason == NO_FIRST


def test_a_later_fragment_changes_no_state(node: Node, version: int) -> None:
    one, two, _ = node.pods
    ends = one.ip[version], two.ip[version], 4000, 80
    for flags in (SYN, RST):
        whole = tcp(*ends, flags, BIG)
        assert node.pod(one, fragment(whole, 0, 512)).passed
        before = node.row(version)
        assert node.pod(one, fragment(whole, 512)).passed
        assert list(node.row(version)["seen"]) == list(before["seen"])
        assert node.row(version)["created"] == before["created"]


def test_a_later_fragment_is_no_second_question(node: Node, version: int) -> None:
    one, two, _ = node.pods
    assert node.pod(one, tcp(one.ip[version], two.ip[version], 4000, 80, SYN)).passed
    against = tcp(two.ip[version], one.ip[version], 80, 4000, SYN, BIG)

    assert node.pod(two, fragment(against, 0, 512)).types == [FLOW]
    later = node.pod(two, fragment(against, 512))
    assert later.passed
    assert FLOW not in later.types


def test_a_later_fragment_makes_no_row(node: Node, version: int) -> None:
    one, two, _ = node.pods
    whole = udp(one.ip[version], two.ip[version], 1, 53, BIG)
    assert node.pod(one, fragment(whole, 0, 512)).passed
    node.forget(version)

    assert node.pod(one, fragment(whole, 512)).passed
    assert len(node.rows(version)[0]) == 0


def test_an_error_is_not_sent_in_fragments(node: Node, version: int) -> None:
    """It would be related by what its later fragments carry."""
    one, two, _ = node.pods
    asked = udp(one.ip[version], two.ip[version], 4000, 53, BIG)
    assert node.pod(one, asked).passed
    kind = (3, 3) if version == 4 else (1, 4)
    error = packets.icmp(two.ip[version], one.ip[version], *kind, data=asked[:1200])

    assert node.pod(two, fragment(error, 0, 512)).passed
    assert node.pod(two, fragment(error, 512)).reason == NO_FIRST
    never_sent = udp(one.ip[version], two.ip[version], 4001, 53, BIG)
    about_nothing = packets.icmp(two.ip[version], one.ip[version], *kind, data=never_sent[:1200])
    assert node.pod(two, fragment(about_nothing, 0, 512)).passed  # by policy
    assert node.pod(two, fragment(about_nothing, 512)).reason == NO_FIRST


def test_11_what_a_first_said_is_forgotten_in_time(make_node: Callable[..., Node], version: int) -> None:
    node = make_node(cfg_fragment_timeout=0xFFFFFFFE)  # two units ago
    one, two, _ = node.pods
    whole = udp(one.ip[version], two.ip[version], 1, 53, BIG)
    assert node.pod(one, fragment(whole, 0, 512)).passed
    assert rows(node, version) == 1

    assert node.pod(one, fragment(whole, 512)).reason == NO_FIRST


def test_2_a_row_of_fragments_that_is_half_anothers_says_nothing(node: Node, version: int) -> None:
    one, two, _ = node.pods
    table = node.maps[f"cp_frag{version}_v1"]
    whole, other = (udp(one.ip[version], two.ip[version], 1, port, BIG) for port in (53, 54))
    assert node.pod(one, fragment(other, 0, 512)).passed
    foreign = table.items()[1][0].tobytes()
    assert node.pod(one, fragment(whole, 0, 512)).passed
    (key,), (own,) = table.items()
    table.update(key.tobytes(), foreign[:8] + own.tobytes()[8:])
    assert node.pod(one, fragment(whole, 512)).reason == NO_FIRST

    table.update(key.tobytes(), own.tobytes())
    assert node.pod(one, fragment(whole, 512)).passed


def test_a_small_map_forgets_and_never_mistakes(make_node: Callable[..., Node], version: int) -> None:
    node = make_node(sizes={f"cp_frag{version}_v1": 32})
    one, two, _ = node.pods
    only(node, two, UDP, 53)
    seen = []
    for number in range(300):
        port = 53 + number % 2
        whole = udp(one.ip[version], two.ip[version], 1, port, BIG)
        assert node.pod(one, fragment(whole, 0, 512, number=number)).passed == (port == 53)
    for number in range(300):
        result = node.pod(one, fragment(whole, 512, number=number))
        assert result.passed <= (number % 2 == 0)
        seen.append(result.reason)
    assert 0 < seen.count(0) < 64


def test_two_headers_of_fragments_are_one_too_many(node: Node) -> None:
    one, two, _ = node.pods
    whole = udp(one.ip[6], two.ip[6], 1, 53, BIG)
    inner = fragment(whole, 0, 512)

    assert node.pod(one, fragment(inner, 0, 256)).reason == 156


def test_ipv6_options_before_and_behind_the_fragment_header(node: Node) -> None:
    one, two, _ = node.pods
    segment = udp(one.ip[6], two.ip[6], 1, 53, BIG)[40:]
    options = bytes([UDP, 0, 1, 4, 0, 0, 0, 0])
    behind = packets.ip(one.ip[6], two.ip[6], 60, options + segment)
    assert node.pod(one, fragment(behind, 0, 512)).passed
    assert node.pod(one, fragment(behind, 512)).passed
    assert node.pod(one, fragment(behind, 8, 512)).reason == OVERLAPS
    assert node.pod(one, fragment(behind, 0, 8, number=5)).reason == TRUNCATED

    header = struct.pack("!BBHI", UDP, 0, 512, 9)
    before = packets.ip(one.ip[6], two.ip[6], 60, bytes([packets.FRAGMENT, 0, 1, 4, 0, 0, 0, 0]) + header + BIG[:64])
    result = node.pod(one, before)
    assert (result.verdict, result.reason) == (REDIRECT, 0)
