# SPDX-License-Identifier: Apache-2.0
"""Guard 10: flows that nobody has answered live apart, so that a flood of them pushes out no conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bpf.node import CONNTRACK, FAR, FAR_IDENTITY, FLOW, INGRESS, Node, Pod
from tests.bpf.packets import ACK, FIN, RST, SYN, echo, tcp, udp
from tests.bpf.test_races import REVOKE

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root
IDLE = 1000
MAIN, UNANSWERED = 2048, 256  # rows


def places(node: Node, version: int) -> tuple[int, int]:
    """How many rows the main map has, and the other."""
    main, unanswered = (len(node.maps[name].items()[0]) for name in CONNTRACK[version])
    return main, unanswered


class Talk:
    def __init__(self, node: Node, version: int, client: Pod, server: Pod, port: int = 4000) -> None:
        self.node, self.client, self.server = node, client, server
        self.ends = client.ip[version], server.ip[version], port, 80
        self.back = server.ip[version], client.ip[version], 80, port

    def ask(self, flags: int) -> int:
        return self.node.pod(self.client, tcp(*self.ends, flags)).verdict

    def answer(self, flags: int) -> int:
        return self.node.pod(self.server, tcp(*self.back, flags)).verdict


@pytest.fixture
def talk(node: Node, version: int) -> Talk:
    return Talk(node, version, node.pods[0], node.pods[1])


# ---- who moves, and when ---------------------------------------------------------------------------------------------


def test_10_tcp_moves_when_the_originator_has_heard_and_says_so(node: Node, talk: Talk, version: int) -> None:
    for flags in (SYN, SYN):
        talk.ask(flags)
        assert places(node, version) == (0, 1)
    talk.answer(SYN | ACK)
    assert places(node, version) == (0, 1)
    talk.ask(ACK)
    assert places(node, version) == (1, 0)
    before = node.row(version)
    assert (list(before["seen"]), before["origin"]) == ([SYN | ACK, SYN | ACK], before["origin"])
    talk.ask(ACK)
    talk.answer(ACK)
    assert places(node, version) == (1, 0)
    assert node.row(version)["nonce"] == before["nonce"]


@pytest.mark.parametrize("reset", [RST, RST | ACK])
def test_10_a_reset_moves_nothing(node: Node, talk: Talk, version: int, reset: int) -> None:
    """Neither one that answers a SYN nor what the originator says after it, nor its own."""
    talk.ask(SYN)
    talk.answer(reset)
    talk.ask(ACK)
    assert places(node, version) == (0, 1)
    talk.ask(reset)
    assert places(node, version) == (0, 1)
    talk.answer(SYN | ACK)
    talk.ask(reset)
    assert places(node, version) == (0, 1)


def test_10_what_was_found_in_the_middle_moves_when_both_have_spoken(node: Node, talk: Talk, version: int) -> None:
    talk.ask(ACK)
    talk.ask(ACK)
    assert places(node, version) == (0, 1)
    talk.answer(ACK)
    talk.ask(ACK)
    assert places(node, version) == (1, 0)


def test_10_all_else_moves_at_the_first_answer(node: Node, version: int) -> None:
    one, two, _ = node.pods
    for packet, answer in (
        (udp(one.ip[version], two.ip[version], 1, 2), udp(two.ip[version], one.ip[version], 2, 1)),
        (echo(one.ip[version], two.ip[version], 9), echo(two.ip[version], one.ip[version], 9, answer=True)),
    ):
        main, _ = places(node, version)
        node.pod(one, packet)
        node.pod(one, packet)
        assert places(node, version) == (main, 1)
        node.pod(two, answer)
        assert places(node, version) == (main + 1, 0)


def test_10_an_answer_that_is_judged_moves_its_flow_as_well(make_node: Callable[..., Node], version: int) -> None:
    """From elsewhere the first answer is no replay."""
    node = make_node("overlay_test")
    one = node.pods[0]
    node.policy(one, INGRESS)
    node.pod(one, udp(one.ip[version], FAR[version], 1, 2))
    assert node.overlay(udp(FAR[version], one.ip[version], 2, 1), vni=FAR_IDENTITY).passed
    assert places(node, version) == (1, 0)
    assert node.overlay(udp(FAR[version], one.ip[version], 2, 1), vni=FAR_IDENTITY).passed


def test_10_a_denied_packet_makes_no_row(node: Node, talk: Talk, version: int) -> None:
    node.policy(talk.server, INGRESS)
    for flags in (SYN, ACK, FIN | ACK):
        talk.ask(flags)
    assert places(node, version) == (0, 0)


def test_10_what_was_deleted_does_not_come_back_by_moving(make_node: Callable[..., Node], version: int) -> None:
    node = make_node("faults_test")
    one = node.pods[0]
    peer = "198.51.100.8" if version == 4 else "2001:db8::8"
    node.pod(one, udp(one.ip[version], peer, 1, 2))
    node.fault(REVOKE)

    assert node.netdev(udp(peer, one.ip[version], 2, 1)).passed
    assert places(node, version) == (0, 0)


def test_10_what_is_a_new_flow_now_is_an_unanswered_one(node: Node, version: int) -> None:
    """Its question is denied, so that the answer stands for itself: nobody has answered that yet."""
    one, two, _ = node.pods
    assert node.pod(one, udp(one.ip[version], two.ip[version], 1, 2)).passed
    assert node.pod(two, udp(two.ip[version], one.ip[version], 2, 1)).passed
    assert places(node, version) == (1, 0)
    node.policy(two, INGRESS)

    assert node.pod(two, udp(two.ip[version], one.ip[version], 2, 1)).types == [FLOW]
    assert places(node, version) == (0, 1)


def test_10_where_a_row_is_in_both_the_main_one_counts_and_both_go(node: Node, version: int) -> None:
    main, unanswered = (node.maps[name] for name in CONNTRACK[version])
    one, two, _ = node.pods
    asked = udp(one.ip[version], two.ip[version], 1, 2)
    assert node.pod(one, asked).passed
    (key,), (row,) = unanswered.items()
    assert node.pod(two, udp(two.ip[version], one.ip[version], 2, 1)).passed
    assert places(node, version) == (1, 0)
    unanswered.update(key.tobytes(), row.tobytes())
    nonce = int(main.items()[1][0]["nonce"])
    assert node.pod(one, asked).passed
    assert (places(node, version), int(main.items()[1][0]["nonce"])) == ((1, 1), nonce)
    node.policy(two, INGRESS)
    assert node.pod(one, asked).reason == 133
    assert places(node, version) == (0, 0)


# ---- floods ----------------------------------------------------------------------------------------------------------


def flood_syn_open(node: Node, version: int, number: int) -> None:
    talk = Talk(node, version, node.pods[2], node.pods[1], 10000 + number)
    talk.ask(SYN)
    talk.answer(SYN | ACK)


def flood_syn_closed(node: Node, version: int, number: int) -> None:
    talk = Talk(node, version, node.pods[2], node.pods[1], 10000 + number)
    talk.ask(SYN)
    talk.answer(RST | ACK)


def flood_udp(node: Node, version: int, number: int) -> None:
    three, two = node.pods[2], node.pods[1]
    node.pod(three, udp(three.ip[version], two.ip[version], 10000 + number, 53))


@pytest.mark.parametrize("flood", [flood_syn_open, flood_syn_closed, flood_udp])
def test_10_idle_connections_survive_a_flood(
    make_node: Callable[..., Node], version: int, flood: Callable[[Node, int, int], None]
) -> None:
    """Of twice as many flows as there is room for. Who began them takes no questions: a lost row would be a cut."""
    main, unanswered = CONNTRACK[version]
    node = make_node(sizes={main: MAIN, unanswered: UNANSWERED})
    one, two, _ = node.pods
    idle = [Talk(node, version, one, two, 20000 + number) for number in range(IDLE)]
    node.policy(one, INGRESS)
    for talk in idle:
        talk.ask(SYN)
        talk.answer(SYN | ACK)
        talk.ask(ACK)
    assert places(node, version)[0] == IDLE

    for number in range(2 * MAIN):
        flood(node, version, number)

    assert places(node, version)[0] == IDLE
    assert 0 < places(node, version)[1] <= UNANSWERED
    assert {talk.answer(ACK) for talk in idle} == {7}
