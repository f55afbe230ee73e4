# SPDX-License-Identifier: Apache-2.0
"""Policies for the node itself: every way to it and from it is judged, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bpf.node import (
    ALLOWED,
    DEFAULT_DENIED,
    EGRESS,
    ENFORCE_INGRESS,
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
    SHOT,
    TO_HOST,
    TO_NETWORK,
    WORLD,
    Level,
    Node,
)
from tests.bpf.packets import ACK, SYN, echo, tcp, udp

if TYPE_CHECKING:
    from collections.abc import Callable

from tests.bpf.host import (
    LINK_LOCAL,
    NEIGHBOUR,
    OTHER,
    POD_DEVICE,
    TAKEN,
    WORLDS,
    close,
    host_is_an_endpoint,
    verdicts,
)

pytestmark = pytest.mark.root


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    return host_is_an_endpoint(make_node)


# ---- to the host -----------------------------------------------------------------------------------------------------


def test_the_network_reaches_the_host_by_its_ingress(node: Node, version: int) -> None:
    ask = tcp(WORLD[version], OWN_NODE[version], 4000, 22, SYN)
    close(node, INGRESS, WORLDS[version])

    allowed = node.netdev(ask)
    denied = node.netdev(tcp(WORLD[version], OWN_NODE[version], 4000, 23, SYN))
    stranger = node.netdev(tcp(FAR_NODE[version], OWN_NODE[version], 4000, 22, SYN))

    assert (allowed.verdict, verdicts(allowed)) == (NEXT, (NOT_ASKED, ALLOWED))
    event = allowed.events[-1]
    assert (event["dst_identity"], event["dst_endpoint"], event["src_endpoint"]) == (HOST, HOST_SLOT, 0)
    assert event["flags"] & (TO_HOST | TO_NETWORK) == TO_HOST
    assert (denied.verdict, denied.reason, verdicts(denied)) == (SHOT, 133, (NOT_ASKED, DEFAULT_DENIED))
    assert (stranger.verdict, stranger.reason, stranger.events[-1]["src_identity"]) == (SHOT, 133, REMOTE_NODE)
    assert node.metric(133, INGRESS) == 2


def test_answers_of_the_host_pass_whatever_its_egress_says(node: Node, version: int) -> None:
    close(node, INGRESS, WORLDS[version])
    assert node.netdev(tcp(WORLD[version], OWN_NODE[version], 4000, 22, SYN)).verdict == NEXT
    close(node, EGRESS)
    node.itself.flags &= ~ENFORCE_INGRESS  # ingress is open again
    node.plug(node.itself)

    assert node.uplink(tcp(OWN_NODE[version], WORLD[version], 22, 4000, SYN | ACK)).verdict == NEXT
    for _ in range(2):
        assert node.netdev(tcp(WORLD[version], OWN_NODE[version], 4000, 22, ACK)).verdict == NEXT
        assert node.uplink(tcp(OWN_NODE[version], WORLD[version], 22, 4000, ACK, b"x")).verdict == NEXT
    assert node.uplink(tcp(OWN_NODE[version], WORLD[version], 23, 4000, SYN)).reason == 133


def test_a_live_connection_is_cut_in_both_directions(node: Node, version: int) -> None:
    close(node, INGRESS, WORLDS[version])
    node.netdev(tcp(WORLD[version], OWN_NODE[version], 4000, 22, SYN))
    node.uplink(tcp(OWN_NODE[version], WORLD[version], 22, 4000, SYN | ACK))
    assert node.netdev(tcp(WORLD[version], OWN_NODE[version], 4000, 22, ACK)).verdict == NEXT

    close(node, INGRESS)

    assert node.uplink(tcp(OWN_NODE[version], WORLD[version], 22, 4000, ACK, b"x")).reason == 133
    assert node.netdev(tcp(WORLD[version], OWN_NODE[version], 4000, 22, ACK)).reason == 133
    assert node.uplink(tcp(OWN_NODE[version], WORLD[version], 22, 4000, ACK, b"x")).reason == 133


def test_a_local_pod_reaches_the_host_by_both(node: Node, version: int) -> None:
    one, two, _ = node.pods
    close(node, INGRESS, one.identity)

    for address in (OWN_NODE[version], ROUTER[version]):
        allowed = node.pod(one, tcp(one.ip[version], address, 4000, 22, SYN))
        assert (allowed.verdict, verdicts(allowed)) == (OK, (NOT_ENFORCED, ALLOWED))
        answer = node.host(tcp(address, one.ip[version], 22, 4000, SYN | ACK))
        assert answer.verdict == REDIRECT
        denied = node.pod(two, tcp(two.ip[version], address, 4000, 22, SYN))
        assert (denied.reason, verdicts(denied)) == (133, (NOT_ENFORCED, DEFAULT_DENIED))
    node.policy(one, EGRESS)
    assert verdicts(node.pod(one, tcp(one.ip[version], OWN_NODE[version], 4001, 22, SYN))) == (
        DEFAULT_DENIED,
        NOT_ASKED,
    )


def test_far_pods_and_nodes_reach_the_host_through_the_tunnel(node: Node, version: int) -> None:
    close(node, INGRESS, FAR_IDENTITY)

    allowed = node.overlay(tcp(FAR[version], OWN_NODE[version], 4000, 22, SYN))
    denied = node.overlay(tcp(FAR_NODE[version], OWN_NODE[version], 4000, 22, SYN), vni=REMOTE_NODE, outer=FAR_NODE[4])

    assert (allowed.verdict, verdicts(allowed)) == (OK, (NOT_ASKED, ALLOWED))
    assert node.host(tcp(OWN_NODE[version], FAR[version], 22, 4000, SYN | ACK)).verdict == REDIRECT
    if version == 4:
        assert denied.reason == 133


def test_an_address_that_nobody_has_told_of_is_the_hosts_when_the_routes_say_so(node: Node, version: int) -> None:
    """Between an address's coming and its row there is a moment; a broadcast address or a router's anycast has none."""
    close(node, INGRESS, WORLDS[version])

    assert node.netdev(tcp(WORLD[version], TAKEN[version], 4000, 23, SYN)).reason == 133
    assert node.netdev(tcp(WORLD[version], OTHER[version], 4000, 23, SYN)).verdict == NEXT  # forwarded: not the host's


def test_groups_are_not_judged(node: Node) -> None:
    close(node, INGRESS)
    close(node, EGRESS)
    node.itself.flags |= ENFORCE_INGRESS
    node.plug(node.itself)

    for group in ("224.0.0.18", "255.255.255.255", "ff02::1:2"):
        source = LINK_LOCAL if ":" in group else OWN_NODE[4]
        neighbour = NEIGHBOUR if ":" in group else OTHER[4]
        assert node.uplink(udp(source, group, 5353, 5353)).verdict == NEXT
        assert node.netdev(udp(neighbour, group, 5353, 5353)).verdict == NEXT


# ---- from the host ---------------------------------------------------------------------------------------------------


def test_the_host_reaches_the_network_by_its_egress(node: Node, version: int) -> None:
    close(node, EGRESS, REMOTE_NODE)

    allowed = node.uplink(tcp(OWN_NODE[version], FAR_NODE[version], 4000, 22, SYN))
    denied = node.uplink(tcp(OWN_NODE[version], WORLD[version], 4000, 22, SYN))

    assert (allowed.verdict, verdicts(allowed)) == (NEXT, (ALLOWED, NOT_ASKED))
    event = allowed.events[-1]
    assert (event["src_identity"], event["src_endpoint"], event["dst_identity"]) == (HOST, HOST_SLOT, REMOTE_NODE)
    assert event["flags"] & (TO_HOST | TO_NETWORK) == TO_NETWORK
    assert (denied.verdict, denied.reason, verdicts(denied)) == (SHOT, 133, (DEFAULT_DENIED, NOT_ASKED))
    assert (node.metric(133, EGRESS), node.metric(133, INGRESS)) == (1, 0)
    assert node.netdev(tcp(FAR_NODE[version], OWN_NODE[version], 22, 4000, SYN | ACK)).verdict == NEXT


def test_answers_to_the_host_pass_whatever_its_ingress_says(node: Node, version: int) -> None:
    node.uplink(udp(OWN_NODE[version], WORLD[version], 4000, 53))
    close(node, INGRESS)

    assert node.netdev(udp(WORLD[version], OWN_NODE[version], 53, 4000)).verdict == NEXT
    assert node.netdev(udp(WORLD[version], OWN_NODE[version], 53, 4001)).reason == 133
    node.uplink(echo(OWN_NODE[version], WORLD[version], 9))
    assert node.netdev(echo(WORLD[version], OWN_NODE[version], 9, answer=True)).verdict == NEXT
    assert node.netdev(echo(WORLD[version], OWN_NODE[version], 9)).reason == 133


def test_the_host_reaches_its_pods_by_its_egress_and_their_ingress(node: Node, version: int) -> None:
    one, two, _ = node.pods
    close(node, EGRESS, one.identity)
    node.policy(one, INGRESS, default=node.open_to_host())

    allowed = node.host(tcp(ROUTER[version], one.ip[version], 4000, 22, SYN))
    denied = node.host(tcp(ROUTER[version], two.ip[version], 4000, 22, SYN))

    assert (allowed.verdict, verdicts(allowed)) == (REDIRECT, (ALLOWED, ALLOWED))
    assert allowed.events[-1]["src_endpoint"] == HOST_SLOT
    assert (denied.reason, verdicts(denied)) == (133, (DEFAULT_DENIED, NOT_ASKED))
    assert node.metric(133, EGRESS) == 1
    assert node.pod(one, tcp(one.ip[version], ROUTER[version], 22, 4000, SYN | ACK)).verdict == OK


def test_the_host_reaches_far_pods_by_its_egress(node: Node, version: int) -> None:
    close(node, EGRESS, FAR_IDENTITY)

    assert node.host(tcp(ROUTER[version], FAR[version], 4000, 22, SYN)).verdict == REDIRECT
    assert node.host(tcp(ROUTER[version], FAR[version], 4000, 23, SYN)).reason == 133


def test_what_the_stack_sends_is_the_hosts_whatever_address_it_has(node: Node, version: int) -> None:
    close(node, EGRESS)

    assert node.uplink(tcp(OTHER[version], WORLD[version], 4000, 22, SYN)).reason == 133
    assert node.host(tcp(OTHER[version], node.pods[0].ip[version], 4000, 22, SYN)).reason == 133


def test_an_address_that_was_not_known_decides_for_one_packet_only(node: Node, version: int) -> None:
    one = node.pods[0]
    node.policy(one, INGRESS, default=node.port_class(Level(bits=(3,))))
    node.vector(WORLDS[version], 3)
    assert node.host(udp(OTHER[version], one.ip[version], 4000, 53)).verdict == REDIRECT

    node.ipcache(OTHER[version], 4711)  # no bump of the host's

    assert node.host(udp(OTHER[version], one.ip[version], 4000, 53)).reason == 133


def test_what_the_stack_forwards_is_not_the_hosts(node: Node, version: int) -> None:
    close(node, EGRESS)
    one = node.pods[0]

    assert node.uplink(tcp(one.ip[version], WORLD[version], 4000, 22, SYN), ingress=POD_DEVICE).verdict == NEXT
    assert node.uplink(tcp(OTHER[version], WORLD[version], 4000, 22, SYN), ingress=POD_DEVICE).verdict == NEXT
    assert len(node.rows(version)[0]) == 0
    assert node.host(tcp(WORLD[version], one.ip[version], 4000, 22, SYN), ingress=POD_DEVICE).verdict == REDIRECT


def test_answers_to_what_the_stack_translates_pass_and_nothing_else(node: Node, version: int) -> None:
    """A container behind the host's address asks; the answer comes to that address."""
    close(node, INGRESS)
    close(node, EGRESS)
    node.itself.flags |= ENFORCE_INGRESS
    node.plug(node.itself)

    asked = node.uplink(tcp(OWN_NODE[version], WORLD[version], 50000, 443, SYN), ingress=POD_DEVICE)

    assert asked.verdict == NEXT
    assert (asked.events[-1]["src_identity"], asked.events[-1]["src_endpoint"]) == (WORLDS[version], 0)
    for _ in range(2):
        assert node.netdev(tcp(WORLD[version], OWN_NODE[version], 443, 50000, SYN | ACK)).verdict == NEXT
    assert node.netdev(tcp(WORLD[version], OWN_NODE[version], 443, 50001, SYN | ACK)).reason == 133
    assert node.netdev(tcp(WORLD[version], OWN_NODE[version], 443, 50000, SYN)).reason == 133
    # The host itself has no part in that flow.
    assert node.uplink(tcp(OWN_NODE[version], WORLD[version], 50000, 443, ACK)).reason == 133
