# SPDX-License-Identifier: Apache-2.0
"""The guards that make a replayed decision correct (docs/concepts/datapath.md), each with a test that fails without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bpf.node import (
    EGRESS,
    FAR,
    FLOW,
    INGRESS,
    IS_REPLY,
    REDIRECT,
    ROUTER,
    SHOT,
    TUNNEL,
    WORLD,
    Level,
    Node,
    Pod,
    Result,
    address,
    u32,
)
from tests.bpf.packets import ACK, FIN, FRAGMENT, PSH, RST, SYN, UDP, echo, ip, tcp, udp, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root


class Talk:
    """A TCP or UDP conversation between two ends, one packet at a time."""

    def __init__(self, node: Node, version: int, client: Pod, server: Pod, sport: int = 4000, dport: int = 80) -> None:
        self.node, self.client, self.server = node, client, server
        self.ends = client.ip[version], server.ip[version], sport, dport
        self.back = server.ip[version], client.ip[version], dport, sport

    def ask(self, flags: int, data: bytes = b"") -> Result:
        return self.node.pod(self.client, tcp(*self.ends, flags, data))

    def answer(self, flags: int, data: bytes = b"") -> Result:
        return self.node.pod(self.server, tcp(*self.back, flags, data))

    def open(self) -> None:
        assert self.ask(SYN).passed
        assert self.answer(SYN | ACK).passed
        assert self.ask(ACK).passed


@pytest.fixture
def talk(node: Node, version: int) -> Talk:
    return Talk(node, version, node.pods[0], node.pods[1])


def allow(node: Node, pod: Pod, *ports: tuple[int, int], direction: int = INGRESS) -> None:
    number = node.port_class(Level(everybody=True))
    node.policy(pod, direction, dict.fromkeys(ports, number))


# ---- 1: a direction belongs to where it came from --------------------------------------------------------------------


def test_1_another_pod_cannot_join_a_flow(node: Node, version: int) -> None:
    one, two, three = node.pods
    for packet in (
        udp(one.ip[version], two.ip[version], 4000, 53),
        tcp(one.ip[version], two.ip[version], 4001, 80, SYN),
    ):
        assert node.pod(one, packet).passed
    forged_udp = node.pod(three, udp(one.ip[version], two.ip[version], 4000, 53))
    forged_rst = node.pod(three, tcp(one.ip[version], two.ip[version], 4001, 80, RST))
    forged_reply = node.pod(three, udp(two.ip[version], one.ip[version], 53, 4000))

    for result in (forged_udp, forged_rst, forged_reply):
        assert (result.verdict, result.reason) == (SHOT, 132)
        assert result.events[0]["src_endpoint"] == 3
    assert node.metric(132, EGRESS) == 3
    _, rows = node.rows(version)
    assert not any((row["seen"] & RST).any() for row in rows)


def test_1_another_hook_is_judged_again(node: Node, version: int) -> None:
    one = node.pods[0]
    allow(node, one, direction=INGRESS)
    question, answer = udp(one.ip[version], WORLD[version], 4000, 53), udp(WORLD[version], one.ip[version], 53, 4000)
    assert node.pod(one, question).passed
    assert node.netdev(answer).passed
    assert node.row(version)["half"][1]["source"] == 4

    through_host = node.host(answer)  # the stack forwards it: judged again as an answer from the same peer

    assert through_host.passed
    assert node.row(version)["half"][1]["source"] == 3
    node.ipcache(WORLD[version], 16777300)  # now the peer is somebody else, and what one asks of him is denied
    allow(node, one, direction=EGRESS)
    assert node.netdev(answer).reason == 133


def test_1_what_the_stack_forwards_is_not_the_hosts(node: Node, version: int) -> None:
    """A frame in the node's own name that came in where nobody looks, over a VLAN say."""
    one = node.pods[0]
    node.policy(one, INGRESS, default=node.open_to_host())
    ours = udp(ROUTER[version], one.ip[version], 4000, 53)

    assert node.host(ours, ingress=node.devices["eth0"]).reason == 133
    assert node.host(ours).passed
    assert node.host(ours, ingress=node.devices["eth0"]).reason == 133  # nor as part of a flow of the host


# ---- 4: slots have generations, epochs only grow ---------------------------------------------------------------------


def test_4_a_slot_given_out_again_inherits_nothing(node: Node, version: int) -> None:
    one, two, _ = node.pods
    asked, answered = udp(one.ip[version], two.ip[version], 4000, 53), udp(two.ip[version], one.ip[version], 53, 4000)
    assert node.pod(one, asked).passed
    assert node.pod(two, answered).passed
    node.policy(two, INGRESS)  # from here on nobody reaches it, but the flow's row is older
    before = node.maps["cp_epepoch_v1"].lookup(b"\1\0\0\0")
    one.generation, one.identity = 2, 1001
    node.plug(one)
    node.maps["cp_epepoch_v1"].update(b"\1\0\0\0", before.tobytes())  # even if nobody had bumped
    node.maps["cp_epepoch_v1"].update(b"\2\0\0\0", node.maps["cp_epepoch_v1"].lookup(b"\2\0\0\0").tobytes())

    assert node.pod(one, asked).reason == 133
    assert len(node.rows(version)[0]) == 0


def test_4_generations_are_compared_on_replay(node: Node, version: int) -> None:
    one, two, _ = node.pods
    asked = udp(one.ip[version], two.ip[version], 4000, 53)
    assert node.pod(one, asked).passed
    nonce = int(node.row(version)["nonce"])
    for pod in (one, two):
        epochs = [node.maps["cp_epepoch_v1"].lookup(bytes([slot, 0, 0, 0])).tobytes() for slot in (1, 2)]
        pod.generation += 1
        node.plug(pod)
        for slot, epoch in enumerate(epochs, 1):
            node.maps["cp_epepoch_v1"].update(bytes([slot, 0, 0, 0]), epoch)
        assert node.pod(one, asked).passed
        assert int(node.row(version)["nonce"]) != nonce
        nonce = int(node.row(version)["nonce"])


def test_4_epoch_zero_is_never_valid(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.maps["cp_epoch_v1"].update(bytes(4), bytes(8))
    asked = udp(one.ip[version], two.ip[version], 4000, 53)
    assert node.pod(one, asked).passed
    assert node.row(version)["half"][0]["epoch"] == 0
    node.policy(two, INGRESS)

    assert node.pod(one, asked).reason == 133


def test_4_where_a_pod_was_its_next_owner_has_no_right_to_an_answer(node: Node, version: int) -> None:
    one, two, _ = node.pods
    asked, answered = udp(one.ip[version], two.ip[version], 4000, 53), udp(two.ip[version], one.ip[version], 53, 4000)
    for gone in (one, two):
        node.free(one)
        assert node.pod(one, asked).passed
        assert node.pod(two, answered).passed
        node.policy(one, INGRESS)
        assert node.pod(two, answered).passed
        gone.generation += 1  # another pod, at the same address; nobody has asked since
        node.plug(gone)

        assert node.pod(two, unreachable(two.ip[version], one.ip[version], asked)).reason == 133
        assert node.pod(two, answered).reason == 133
        assert len(node.rows(version)[0]) == 0


def test_4_an_address_that_names_a_former_owner_leads_nowhere(node: Node, version: int) -> None:
    one, two, _ = node.pods
    two.generation += 1
    node.plug(two)
    node.maps["cp_local_v1"].update(address(two.ip[version]), u32(two.slot) + u32(two.generation - 1))

    assert node.pod(one, udp(one.ip[version], two.ip[version], 4000, 53)).reason == 203


def test_epochs_cut_a_live_flow(node: Node, talk: Talk) -> None:
    talk.open()
    node.policy(talk.server, INGRESS)

    assert talk.ask(ACK | PSH, b"x").reason == 133


def test_flows_that_leave_the_node_replay_as_well(make_node: Callable[..., Node], version: int) -> None:
    """Slot 0 stands for everybody who is no pod here, and its epoch, which the agent bumps with all, for nothing."""
    node = make_node("overlay_test")
    one = node.pods[0]

    def writes(*results: Result) -> int:
        assert all(result.passed for result in results)
        return int(node.maps["cp_flowseq_v2"].lookup(bytes(4)))

    for peer, answer in ((FAR, node.overlay), (WORLD, node.netdev), (ROUTER, node.host)):
        asked = udp(one.ip[version], peer[version], 4000, 53)
        answered = udp(peer[version], one.ip[version], 53, 4000)
        before = writes(node.pod(one, asked), answer(answered))
        assert writes(node.pod(one, asked), answer(answered)) == before
    before = writes(node.host(udp(ROUTER[version], FAR[version], 4000, 53)))
    assert writes(node.host(udp(ROUTER[version], FAR[version], 4000, 53))) == before


# ---- 5: a reply has no right of its own ------------------------------------------------------------------------------


def test_5_a_download_ends_when_the_question_is_denied(node: Node, talk: Talk, version: int) -> None:
    talk.open()
    allow(node, talk.client, direction=INGRESS)  # the client takes no questions; answers pass
    assert talk.answer(ACK, b"data").passed
    node.policy(talk.server, INGRESS)  # the client may no longer ask

    cut = talk.answer(ACK, b"more")

    assert cut.reason == 133
    assert talk.ask(ACK).reason == 133


def test_5_a_server_that_streams_on_is_cut(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(one, INGRESS)
    assert node.pod(one, udp(one.ip[version], two.ip[version], 4000, 53)).passed
    stream = udp(two.ip[version], one.ip[version], 53, 4000)
    assert node.pod(two, stream).passed
    node.policy(one, EGRESS)  # a new set: egress is denied, ingress is still enforced
    one.flags |= 2
    node.plug(one)

    assert node.pod(two, stream).reason == 133


def test_5_the_original_directions_epoch_stays_its_own(node: Node, version: int) -> None:
    one = node.pods[0]
    assert node.pod(one, udp(one.ip[version], WORLD[version], 4000, 53)).passed
    before = int(node.row(version)["half"][0]["epoch"])
    node.bump()
    assert node.netdev(udp(WORLD[version], one.ip[version], 53, 4000)).passed

    halves = node.row(version)["half"]
    assert int(halves[0]["epoch"]) == before
    assert int(halves[1]["epoch"]) == before + 1


# ---- 7: what is judged again, and what ends a flow -------------------------------------------------------------------


def test_7_only_a_bare_syn_is_judged_again(node: Node, talk: Talk, version: int) -> None:
    def writes(result: Result) -> int:
        assert result.passed
        return int(node.maps["cp_flowseq_v2"].lookup(bytes(4)))

    assert writes(talk.ask(SYN)) == 1
    assert writes(talk.ask(SYN)) == 2
    assert writes(talk.answer(SYN | ACK)) == 2
    assert writes(talk.ask(ACK)) == 3  # the row moves to those that were answered, as it is
    assert writes(talk.ask(ACK | FIN)) == 3
    assert writes(talk.answer(ACK | FIN)) == 3
    assert writes(talk.ask(ACK)) == 3


def test_7_a_fragment_is_judged_again(node: Node, version: int) -> None:
    one, two, _ = node.pods
    ends = one.ip[version], two.ip[version]
    whole = udp(*ends, 4000, 53, b"x" * 32)
    if version == 4:
        fragment = udp(*ends, 4000, 53, b"x" * 32, fragment=0x2000)
    else:
        fragment = ip(*ends, FRAGMENT, bytes([UDP, 0, 0, 1, 0, 0, 0, 9]) + whole[40:])
    assert node.pod(one, whole).passed
    nonce = int(node.row(version)["nonce"])
    assert node.pod(one, whole).passed
    assert int(node.row(version)["nonce"]) == nonce

    assert node.pod(one, fragment).passed
    assert int(node.row(version)["nonce"]) != nonce


def test_7_a_syn_again_is_no_new_flow(node: Node, talk: Talk, version: int) -> None:
    assert talk.ask(SYN).types == [FLOW]
    flow = int(node.row(version)["flow"])

    assert talk.ask(SYN).types == []
    assert int(node.row(version)["flow"]) == flow


def test_7_a_syn_on_a_closing_row_is_a_new_flow(node: Node, talk: Talk, version: int) -> None:
    talk.open()
    talk.ask(FIN | ACK)
    talk.answer(FIN | ACK)
    flow = int(node.row(version)["flow"])

    assert talk.ask(SYN).types == [FLOW]

    row = node.row(version)
    assert int(row["flow"]) != flow
    assert list(row["seen"]) == [SYN, 0]


def test_7_a_tuple_used_again_after_the_policy_changed_is_denied(node: Node, talk: Talk) -> None:
    talk.open()
    talk.ask(FIN | ACK)
    talk.answer(FIN | ACK)
    slot = talk.server.slot.to_bytes(4, "little")
    epoch = node.maps["cp_epepoch_v1"].lookup(slot).tobytes()
    node.policy(talk.server, INGRESS)
    node.maps["cp_epepoch_v1"].update(slot, epoch)  # a SYN is judged whatever the epochs say

    assert talk.ask(SYN).reason == 133


def test_7_a_forged_reset_does_not_end_a_flow(node: Node, talk: Talk, version: int) -> None:
    talk.open()
    alive = int(node.row(version)["expires"])
    talk.answer(RST)
    assert int(node.row(version)["expires"]) < alive
    writes = int(node.row(version)["nonce"])

    assert talk.ask(ACK, b"still here").passed

    row = node.row(version)
    assert int(row["nonce"]) != writes  # judged
    assert int(row["expires"]) >= alive
    assert not (row["seen"] & RST).any()
    node.policy(talk.server, INGRESS)
    talk.answer(RST)
    assert talk.ask(ACK, b"still here").reason == 133


# ---- 8: a reply's rights are no question's ---------------------------------------------------------------------------


def test_8_two_that_ping_each_other_with_one_id_have_two_flows(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(one, INGRESS)
    assert node.pod(one, echo(one.ip[version], two.ip[version], 7)).passed
    assert node.pod(two, echo(two.ip[version], one.ip[version], 7, answer=True)).passed

    assert node.pod(two, echo(two.ip[version], one.ip[version], 7)).reason == 133
    assert node.pod(two, echo(two.ip[version], one.ip[version], 7, answer=True)).passed
    assert len(node.rows(version)[0]) == 1


def test_8_an_answer_alone_makes_no_flow(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(one, INGRESS)
    assert node.pod(one, echo(one.ip[version], two.ip[version], 7, answer=True)).passed

    assert len(node.rows(version)[0]) == 0
    assert node.pod(two, echo(two.ip[version], one.ip[version], 7)).reason == 133


def test_8_a_syn_against_the_flow_is_judged_and_a_denied_one_leaves_the_row_alone(
    node: Node, talk: Talk, version: int
) -> None:
    node.policy(talk.client, INGRESS)
    talk.open()
    before = node.row(version).tobytes()

    assert talk.answer(SYN).reason == 133
    assert node.row(version).tobytes() == before
    node.free(talk.client)
    result = talk.answer(SYN)
    assert result.types == [FLOW]
    assert result.events[0]["flags"] & IS_REPLY == 0


# ---- 9: without a row a packet stands for itself ---------------------------------------------------------------------


def test_9_an_unsolicited_ack_is_judged_in_its_own_direction(node: Node, talk: Talk, version: int) -> None:
    node.policy(talk.client, INGRESS)

    assert talk.answer(ACK).reason == 133
    assert talk.answer(SYN | ACK).reason == 133
    assert talk.ask(ACK).passed


def test_9_the_end_of_a_forgotten_flow_makes_no_row(node: Node, talk: Talk, version: int) -> None:
    for flags in (RST, FIN | ACK, RST | ACK):
        result = talk.ask(flags)
        assert result.passed
        assert not result.types
    assert len(node.rows(version)[0]) == 0


# ---- 11: an expired row is no row ------------------------------------------------------------------------------------


def test_11_an_expired_row_gives_a_reply_nothing(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(one, INGRESS)
    assert node.pod(one, udp(one.ip[version], two.ip[version], 4000, 53)).passed
    answer = udp(two.ip[version], one.ip[version], 53, 4000)
    node.age(version, -2)
    assert node.pod(two, answer).passed
    node.age(version, 2)

    assert node.pod(two, answer).reason == 133


def test_11_a_question_after_the_end_is_a_new_flow(node: Node, version: int) -> None:
    one, two, _ = node.pods
    question = udp(one.ip[version], two.ip[version], 4000, 53)
    node.pod(one, question)
    flow = int(node.row(version)["flow"])
    node.age(version, 2)

    assert node.pod(one, question).types == [FLOW]
    assert int(node.row(version)["flow"]) != flow


def test_11_the_clock_may_wrap(make_node: Callable[..., Node], version: int) -> None:
    node = make_node("faults_test")
    one, two, _ = node.pods
    node.policy(one, INGRESS)
    question, answer = (
        udp(*pair)
        for pair in ((one.ip[version], two.ip[version], 4000, 53), (two.ip[version], one.ip[version], 53, 4000))
    )
    for before_wrap in (30, 1):  # the row's life of 59 passes the wrap
        offset = (-node.now() - before_wrap) % (1 << 32)
        node.fault(clock=offset)
        assert node.pod(one, question).passed
        assert int(node.row(version)["expires"]) < 100  # wrapped
        assert node.pod(two, answer).passed
        node.fault(clock=(offset + 200) % (1 << 32))
        assert node.pod(two, answer).reason == 133


@pytest.mark.parametrize(("flags", "life"), [((SYN,), 59), ((SYN, ACK), 7813), ((SYN, RST), 10)])
def test_lives(node: Node, version: int, talk: Talk, flags: tuple[int, ...], life: int) -> None:
    for one in flags:
        assert talk.ask(one).passed

    assert abs(int(node.row(version)["expires"]) - node.now() - life) <= 1


def test_a_closed_flow_is_not_kept_alive(node: Node, version: int, talk: Talk) -> None:
    talk.open()
    talk.ask(FIN | ACK)
    talk.answer(FIN | ACK)
    node.age(version, -3)
    before = int(node.row(version)["expires"])

    assert talk.ask(ACK).passed
    assert int(node.row(version)["expires"]) == before


# ---- 12: only what is ours is cached ---------------------------------------------------------------------------------


def test_12_a_changed_mac_or_tunnel_is_seen_at_the_next_bump(node: Node, version: int) -> None:
    one = node.pods[0]
    question = udp(one.ip[version], FAR[version], 4000, 53)
    node.pod(one, question)
    node.ipcache(FAR[version], 3000, flags=TUNNEL, tunnel="192.168.9.3")
    node.bump()
    assert node.pod(one, question).passed

    assert bytes(node.row(version)["half"][0]["to_tunnel"]["remote"]["b"])[-1] == 3


def test_12_routes_replay_without_a_mac(node: Node, version: int) -> None:
    one = node.pods[0]
    question = udp(one.ip[version], WORLD[version], 4000, 53)
    first, second = node.pod(one, question), node.pod(one, question)

    assert first.verdict == second.verdict == REDIRECT
    assert second.frame[:12] == node.framed(question, one.host_mac, one.mac)[:12]  # the kernel writes them, later


def test_12_every_packet_lost_at_a_pods_removal_has_a_flow(node: Node, version: int) -> None:
    one, two, _ = node.pods
    question = udp(one.ip[version], two.ip[version], 4000, 53)
    assert node.pod(one, question).passed
    two.flags = 0
    node.plug(two)  # not ready, then bumped, and only then is the link deleted

    assert node.pod(one, question).reason == 203
