# SPDX-License-Identifier: Apache-2.0
"""Policies for the node itself: what they never judge, odd packets, rows, and that off is off."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.bpf import packets
from tests.bpf.node import (
    AUDIT,
    AUDITED,
    DEFAULT_DENIED,
    DENY,
    EGRESS,
    FAR,
    FAR_IDENTITY,
    FAR_NODE,
    HOST,
    HOST_SLOT,
    INGRESS,
    NEXT,
    NOT_ASKED,
    NOT_ENFORCED,
    OK,
    OWN_NODE,
    REDIRECT,
    REMOTE_NODE,
    ROUTER,
    WORLD,
    WORLD6,
    Level,
    Node,
    Pod,
    Result,
)
from tests.bpf.packets import ACK, FIN, RST, SYN, TCP, UDP, fragment, icmp, ip, tcp, udp, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

from tests.bpf.host import (
    BITS,
    ESP,
    LINK_LOCAL,
    NEIGHBOUR,
    OTHER,
    TAKEN,
    TUNNEL_PORT,
    WORLDS,
    close,
    closed,
    host_is_an_endpoint,
    verdicts,
)

pytestmark = pytest.mark.root


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    return host_is_an_endpoint(make_node)


# ---- what is never judged --------------------------------------------------------------------------------------------


def test_the_tunnel_between_known_nodes_is_never_judged(node: Node, version: int) -> None:
    closed(node)

    assert node.netdev(udp(FAR_NODE[version], OWN_NODE[version], 41000, TUNNEL_PORT)).verdict == NEXT
    assert node.uplink(udp(OWN_NODE[version], FAR_NODE[version], 41000, TUNNEL_PORT)).verdict == NEXT
    assert len(node.rows(version)[0]) == 0

    assert node.netdev(udp(OTHER[version], OWN_NODE[version], 41000, TUNNEL_PORT)).reason == 133
    assert node.uplink(udp(OWN_NODE[version], OTHER[version], 41000, TUNNEL_PORT)).reason == 133
    assert node.netdev(udp(FAR_NODE[version], OWN_NODE[version], TUNNEL_PORT, 41000)).reason == 133
    assert node.netdev(tcp(FAR_NODE[version], OWN_NODE[version], 41000, TUNNEL_PORT, SYN)).reason == 133


def test_a_router_may_say_that_the_tunnels_packets_are_too_big(node: Node, version: int) -> None:
    closed(node)
    sent = udp(OWN_NODE[version], FAR_NODE[version], 41000, TUNNEL_PORT, b"x" * 1400)
    kind = (3, 4) if version == 4 else (2, 0)
    mtu = struct.pack("!HH", 0, 1300) if version == 4 else struct.pack("!I", 1300)

    def told(inner: bytes) -> Result:
        return node.netdev(icmp(OTHER[version], OWN_NODE[version], *kind, rest=mtu, data=inner[:48]))

    assert told(sent).verdict == NEXT
    assert int(node.maps["cp_pathmtu_v1"].lookup(b"\0\0\0\0")) == 1300 - 70
    assert told(udp(OWN_NODE[version], OTHER[version], 41000, TUNNEL_PORT, b"x" * 1400)).reason == 133


def test_neighbours_find_each_other(node: Node) -> None:
    closed(node)
    for kind in (133, 134, 135, 136, 137, 143):
        assert node.uplink(icmp(LINK_LOCAL, NEIGHBOUR, kind, data=bytes(16), ttl=255)).verdict == NEXT
        assert node.netdev(icmp(NEIGHBOUR, OWN_NODE[6], kind, data=bytes(16), ttl=255)).verdict == NEXT
    assert node.netdev(udp(NEIGHBOUR, LINK_LOCAL, 547, 546)).verdict == NEXT
    assert node.uplink(udp(LINK_LOCAL, NEIGHBOUR, 546, 547)).verdict == NEXT
    assert node.netdev(udp(NEIGHBOUR, LINK_LOCAL, 547, 22)).reason == 133
    assert node.netdev(udp(WORLD[6], OWN_NODE[6], 547, 546)).reason == 133


def test_other_networks_frames_are_not_looked_at(node: Node) -> None:
    closed(node)
    payload = tcp(WORLD[4], OWN_NODE[4], 4000, 22, SYN)
    tagged = packets.eth("02:00:00:00:00:aa", "02:00:00:00:00:fe", packets.ETH_VLAN, b"\0\x05\x08\0" + payload)

    assert node.run("netdev", tagged, node.devices["eth0"]).verdict == NEXT
    assert node.run("uplink", tagged, node.devices["eth0"]).verdict == NEXT


# ---- odd packets -----------------------------------------------------------------------------------------------------


def test_link_local_addresses_are_the_hosts_too(node: Node) -> None:
    node.netdev(tcp(NEIGHBOUR, LINK_LOCAL, 4001, 23, SYN))
    assert node.row(6)["half"][0]["target_slot"] == HOST_SLOT  # who began is known before there is a policy
    node.forget(6)
    close(node, INGRESS, WORLD6)

    assert node.netdev(tcp(NEIGHBOUR, LINK_LOCAL, 4000, 22, SYN)).verdict == NEXT
    assert node.uplink(tcp(LINK_LOCAL, NEIGHBOUR, 22, 4000, SYN | ACK)).verdict == NEXT
    assert node.netdev(tcp(NEIGHBOUR, LINK_LOCAL, 4000, 23, SYN)).reason == 133
    assert node.netdev(tcp(NEIGHBOUR, node.pods[0].ip[6], 4000, 22, SYN)).reason == 134


def test_protocols_without_ports_need_a_rule_without_ports(node: Node, version: int) -> None:
    def both() -> list[int]:
        there = node.netdev(ip(WORLD[version], OWN_NODE[version], ESP, bytes(40)))
        back = node.uplink(ip(OWN_NODE[version], WORLD[version], ESP, bytes(40)))
        assert not [one for one in (*there.events, *back.events) if one["type"] == 1]
        return [there.reason, back.reason]

    assert both() == [0, 0]
    close(node, INGRESS, WORLDS[version])
    assert both() == [133, 0]
    node.free(node.itself)
    node.policy(node.itself, INGRESS, default=node.port_class(Level(bits=(BITS[WORLDS[version]],))))
    assert both() == [0, 0]
    node.free(node.itself)
    close(node, EGRESS)
    assert both() == [0, 133]


def test_what_goes_to_the_host_is_handed_over_as_it_came(node: Node, version: int) -> None:
    """A frame to everybody with the host's address stays one: the stack takes no TCP from it."""
    result = node.netdev(tcp(WORLD[version], OWN_NODE[version], 4000, 22, SYN), to="ff:ff:ff:ff:ff:ff")

    assert (result.verdict, result.packet_type) == (NEXT, -1)


def test_fragments_of_what_is_judged(node: Node, version: int) -> None:
    close(node, INGRESS, WORLDS[version], port=53, protocol=UDP)
    whole = udp(WORLD[version], OWN_NODE[version], 4000, 53, b"x" * 2000)
    wrong = udp(WORLD[version], OWN_NODE[version], 4000, 54, b"x" * 2000)

    assert node.netdev(fragment(whole, 1200, number=1)).reason == 175  # its first has not come yet
    assert node.netdev(fragment(whole, 0, 1200, number=2)).verdict == NEXT
    assert node.netdev(fragment(whole, 1200, number=2)).verdict == NEXT
    assert node.netdev(fragment(wrong, 0, 1200, number=3)).reason == 133
    assert node.netdev(fragment(wrong, 1200, number=3)).reason == 175
    assert node.netdev(fragment(whole, 8, number=2)).reason == 134


def test_in_audit_mode_nothing_is_dropped(node: Node, version: int) -> None:
    closed(node)
    node.itself.flags |= AUDIT
    node.plug(node.itself)
    whole = udp(WORLD[version], OWN_NODE[version], 4000, 53, b"x" * 2000)

    denied = node.netdev(tcp(WORLD[version], OWN_NODE[version], 4000, 22, SYN))
    assert (denied.verdict, verdicts(denied)) == (NEXT, (NOT_ASKED, DEFAULT_DENIED | AUDITED))
    denied = node.uplink(tcp(OWN_NODE[version], WORLD[version], 4001, 22, SYN))
    assert (denied.verdict, verdicts(denied)) == (NEXT, (DEFAULT_DENIED | AUDITED, NOT_ASKED))
    assert node.netdev(fragment(whole, 1200, number=1)).verdict == NEXT
    assert node.netdev(ip(WORLD[version], OWN_NODE[version], ESP, bytes(40))).verdict == NEXT


def test_without_a_policy_the_stack_has_what_it_had(node: Node, version: int) -> None:
    whole = udp(WORLD[version], OWN_NODE[version], 4000, 53, b"x" * 2000)

    assert node.netdev(fragment(whole, 1200, number=1)).verdict == NEXT
    assert node.netdev(ip(WORLD[version], OWN_NODE[version], 89, bytes(40))).verdict == NEXT
    assert node.netdev(tcp(WORLD[version], TAKEN[version], 4000, 23, SYN)).verdict == NEXT
    assert len(node.rows(version)[0]) == 0  # the routes are asked only where it matters
    assert (
        node.netdev(
            unreachable(OTHER[version], OWN_NODE[version], ip(OWN_NODE[version], WORLD[version], ESP, bytes(40)))
        ).verdict
        == NEXT
    )


def test_errors_about_the_hosts_flows_pass_and_others_do_not(node: Node, version: int) -> None:
    sent = udp(OWN_NODE[version], WORLD[version], 4000, 33434)
    node.uplink(sent)
    close(node, INGRESS)

    assert node.netdev(unreachable(OTHER[version], OWN_NODE[version], sent)).verdict == NEXT
    unknown = udp(OWN_NODE[version], WORLD[version], 4001, 33434)
    assert node.netdev(unreachable(OTHER[version], OWN_NODE[version], unknown)).reason == 133
    esp = ip(OWN_NODE[version], WORLD[version], ESP, bytes(40))
    assert node.netdev(unreachable(OTHER[version], OWN_NODE[version], esp)).reason == 133
    assert (
        node.netdev(unreachable(OTHER[version], OWN_NODE[version], udp(OTHER[version], WORLD[version], 1, 2))).reason
        == 134
    )


def test_the_host_may_say_what_it_found_wrong_with_a_question(node: Node, version: int) -> None:
    one = node.pods[0]
    far = udp(WORLD[version], OWN_NODE[version], 4000, 53)
    near = udp(one.ip[version], OWN_NODE[version], 4000, 53)
    node.netdev(far)
    node.pod(one, near)
    close(node, EGRESS)

    assert node.uplink(unreachable(OWN_NODE[version], WORLD[version], far)).verdict == NEXT
    assert node.host(unreachable(OWN_NODE[version], one.ip[version], near)).verdict == REDIRECT
    other = udp(WORLD[version], OWN_NODE[version], 4001, 53)
    assert node.uplink(unreachable(OWN_NODE[version], WORLD[version], other)).reason == 133


def test_a_routers_answer_to_the_network_is_not_the_hosts(node: Node, version: int) -> None:
    """Of what a pod is sent, we say that its time is exceeded, by the way that it came."""
    closed(node)
    one = node.pods[0]
    late = node.netdev(udp(WORLD[version], one.ip[version], 4000, 33434, ttl=1))
    assert late.verdict == REDIRECT

    answer = node.run("uplink", late.frame, node.devices["eth0"], ingress=node.devices["eth0"])

    assert answer.verdict == NEXT


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_7_an_accepted_flow_is_replayed_until_the_hosts_set_changes(node: Node, version: int) -> None:
    close(node, INGRESS, WORLDS[version], port=53, protocol=UDP)
    ask = udp(WORLD[version], OWN_NODE[version], 4000, 53)
    assert node.netdev(ask).verdict == NEXT
    host = node.itself
    node.maps["cp_set_v2"].delete(struct.pack("<I", host.policy_set))

    assert node.netdev(ask).verdict == NEXT  # nobody looked
    node.bump(host)

    assert node.netdev(ask).reason == 133


def test_7_so_is_what_the_host_sends(node: Node, version: int) -> None:
    close(node, EGRESS, WORLDS[version], FAR_IDENTITY, port=53, protocol=UDP)
    asks = (
        lambda: node.uplink(udp(OWN_NODE[version], WORLD[version], 4000, 53)),
        lambda: node.host(udp(ROUTER[version], FAR[version], 4000, 53)),
    )
    assert all(ask().passed for ask in asks)
    host = node.itself
    node.maps["cp_set_v2"].delete(struct.pack("<I", host.policy_set))

    assert all(ask().passed for ask in asks)
    node.bump(host)

    assert [ask().reason for ask in asks] == [133, 133]


def test_8_a_denied_question_against_the_flow_leaves_it_alone(node: Node, version: int) -> None:
    node.uplink(tcp(OWN_NODE[version], WORLD[version], 4000, 22, SYN))
    node.netdev(tcp(WORLD[version], OWN_NODE[version], 22, 4000, SYN | ACK))
    close(node, INGRESS)

    assert node.netdev(tcp(WORLD[version], OWN_NODE[version], 22, 4000, SYN)).reason == 133
    assert node.netdev(tcp(WORLD[version], OWN_NODE[version], 22, 4000, ACK)).verdict == NEXT


def test_1_a_row_belongs_to_its_hook(node: Node, version: int) -> None:
    """What the host sends natively with a pod's address and ports is judged anew, and so is the next."""
    one = node.pods[0]
    close(node, EGRESS, one.identity)
    node.host(tcp(ROUTER[version], one.ip[version], 4000, 22, SYN))

    assert node.uplink(tcp(ROUTER[version], one.ip[version], 4000, 22, ACK)).verdict == NEXT
    close(node, EGRESS)
    assert node.uplink(tcp(ROUTER[version], one.ip[version], 4000, 22, ACK)).reason == 133


def test_denied_packets_make_no_row(node: Node, version: int) -> None:
    closed(node)
    node.netdev(tcp(WORLD[version], OWN_NODE[version], 4000, 22, SYN))
    node.uplink(tcp(OWN_NODE[version], WORLD[version], 4000, 22, SYN))
    node.pod(node.pods[0], tcp(node.pods[0].ip[version], OWN_NODE[version], 4000, 22, SYN))

    assert len(node.rows(version)[0]) == 0


def test_a_deny_rule_is_181_on_every_way(node: Node, version: int) -> None:
    one = node.pods[0]
    for identity in (WORLDS[version], FAR_IDENTITY, one.identity):
        node.vector(identity, 5)
    node.vector(REMOTE_NODE, 6)
    number = node.port_class(Level(DENY, (5,)), Level(everybody=True))
    node.policy(node.itself, INGRESS, default=number)

    assert node.netdev(tcp(WORLD[version], OWN_NODE[version], 1, 2, SYN)).reason == 181
    assert node.overlay(tcp(FAR[version], OWN_NODE[version], 1, 2, SYN)).reason == 181
    assert node.pod(one, tcp(one.ip[version], OWN_NODE[version], 1, 2, SYN)).reason == 181
    assert node.netdev(tcp(FAR_NODE[version], OWN_NODE[version], 1, 2, SYN)).verdict == NEXT


# ---- where it is off -------------------------------------------------------------------------------------------------


def test_off_nothing_is_judged_and_nothing_followed(make_node: Callable[..., Node], version: int) -> None:
    node = make_node("overlay_test")
    host = Pod(HOST_SLOT, 0, HOST)
    node.policy(host, INGRESS)
    node.policy(host, EGRESS)
    one = node.pods[0]

    assert node.netdev(tcp(WORLD[version], OWN_NODE[version], 1, 2, SYN)).verdict == NEXT
    assert node.uplink(tcp(OWN_NODE[version], WORLD[version], 1, 2, SYN)).verdict == NEXT
    assert len(node.rows(version)[0]) == 0
    assert node.overlay(tcp(FAR[version], OWN_NODE[version], 1, 2, SYN)).verdict == OK
    assert node.host(tcp(ROUTER[version], FAR[version], 1, 2, SYN)).verdict == REDIRECT
    result = node.pod(one, tcp(one.ip[version], OWN_NODE[version], 1, 2, SYN))
    assert (result.verdict, verdicts(result)) == (OK, (NOT_ENFORCED, NOT_ASKED))
    assert result.events[-1]["dst_endpoint"] == 0


def test_a_family_that_pods_do_not_have_is_judged_as_well(make_node: Callable[..., Node]) -> None:
    node = make_node("overlay_test", cfg_host_firewall=1, cfg_ipv6=0)
    node.vector(2, 2)  # one family: the world is one
    node.policy(node.itself, INGRESS, {(TCP, 22): node.port_class(Level(bits=(2,)))})

    assert node.netdev(tcp(WORLD[6], OWN_NODE[6], 4000, 22, SYN)).verdict == NEXT
    assert node.uplink(tcp(OWN_NODE[6], WORLD[6], 22, 4000, SYN | ACK)).verdict == NEXT
    assert node.netdev(tcp(WORLD[6], OWN_NODE[6], 4000, 23, SYN)).reason == 133
    assert node.netdev(tcp(WORLD[6], OWN_NODE[6], 4000, 22, FIN | ACK)).verdict == NEXT
    assert node.netdev(tcp(WORLD[6], OWN_NODE[6], 4001, 23, RST)).reason == 133
    assert node.netdev(udp(NEIGHBOUR, "ff02::1", 1, 2)).verdict == NEXT
