# SPDX-License-Identifier: Apache-2.0
"""Verdicts of selector vectors: which class is asked, which level decides, and that whatever is missing denies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bpf import packets
from tests.bpf.node import (
    ALLOWED,
    DEFAULT_DENIED,
    DENIED,
    DENY,
    EGRESS,
    FAR,
    FAR_IDENTITY,
    INGRESS,
    NO_POLICY,
    NOT_ASKED,
    NOT_ENFORCED,
    PASS,
    REDIRECT,
    REDIRECT_TO_PROXY,
    REDIRECTED,
    ROUTER,
    Level,
    Node,
    Result,
    u32,
)
from tests.bpf.packets import ACK, SYN, TCP, UDP, echo, tcp, udp

if TYPE_CHECKING:
    from tests.bpf.node import Pod

pytestmark = pytest.mark.root


def ask(node: Node, version: int, port: int = 80, sport: int = 4000, *, target: Pod | None = None) -> Result:
    one, two, _ = node.pods
    return node.pod(one, tcp(one.ip[version], (target or two).ip[version], sport, port, SYN))


def test_default_deny_is_133_and_makes_no_row(node: Node, version: int) -> None:
    node.policy(node.pods[1], INGRESS)

    result = ask(node, version)

    assert (result.passed, result.reason) == (False, 133)
    (event,) = result.events
    assert (event["egress"]["verdict"], event["ingress"]["verdict"]) == (NOT_ENFORCED, DEFAULT_DENIED)
    assert (event["src_identity"], event["dst_identity"], event["dport"]) == (1000, 2000, 80)
    assert len(node.rows(version)[0]) == 0
    assert node.metric(133, INGRESS) == 1
    assert node.metric(0, EGRESS) == 0


def test_egress_default_deny_does_not_ask_the_other_side(node: Node, version: int) -> None:
    node.policy(node.pods[0], EGRESS)

    result = ask(node, version)

    assert result.reason == 133
    assert result.events[0]["egress"]["verdict"] == DEFAULT_DENIED
    assert result.events[0]["ingress"]["verdict"] == NOT_ASKED
    assert node.metric(133, EGRESS) == 1


def test_an_allowed_selector_and_its_rule(node: Node, version: int) -> None:
    number = node.port_class(Level(bits=(5,)), Level(bits=(7, 700)))
    node.vector(1000, 3, 700)
    node.policy(node.pods[1], INGRESS, {(TCP, 80): number})

    result = ask(node, version)

    assert result.passed
    rule = result.events[0]["ingress"]
    assert (rule["class_id"], rule["level"], rule["bit"], rule["verdict"]) == (number, 1, 700, ALLOWED)
    assert ask(node, version, 81).reason == 133
    assert node.pod(node.pods[2], tcp(node.pods[2].ip[version], node.pods[1].ip[version], 1, 80, SYN)).reason == 133


def test_an_explicit_deny_is_181(node: Node, version: int) -> None:
    number = node.port_class(Level(DENY, (9,)), Level(everybody=True))
    node.vector(1000, 9)
    node.policy(node.pods[1], INGRESS, default=number)

    result = ask(node, version)

    assert result.reason == 181
    rule = result.events[0]["ingress"]
    assert (rule["class_id"], rule["level"], rule["bit"], rule["verdict"]) == (number, 0, 9, DENIED)


def test_the_first_level_that_meets_decides(node: Node) -> None:
    node.vector(1000, 1, 2)
    for levels, reason in (((Level(bits=(1,)), Level(DENY, (2,))), 0), ((Level(DENY, (2,)), Level(bits=(1,))), 181)):
        node.policy(node.pods[1], INGRESS, default=node.port_class(*levels))
        assert ask(node, 4).reason == reason


def test_an_identity_without_a_vector_meets_every_deny_and_nothing_else(node: Node) -> None:
    two = node.pods[1]
    node.policy(two, INGRESS, default=node.port_class(Level(bits=tuple(range(1024)))))
    assert ask(node, 4).reason == 133
    node.policy(two, INGRESS, default=node.port_class(Level(DENY, (9,)), Level(everybody=True)))
    assert ask(node, 4).reason == 181
    node.policy(two, INGRESS, default=node.port_class(Level(everybody=True)))
    assert ask(node, 4).passed


def test_exact_port_before_range_before_default(node: Node) -> None:
    two = node.pods[1]
    exact, span, default = (node.port_class(Level(everybody=True)) for _ in range(3))
    ranges = {TCP: [(10, 20, 0), (1000, 1999, span), (3000, 3000, span)], UDP: [(53, 53, span)]}
    node.policy(two, INGRESS, {(TCP, 1500): exact, (TCP, 7): exact}, ranges=ranges, default=default)

    def decided(port: int) -> int:
        return int(ask(node, 4, port, sport=5000 + port % 7).events[0]["ingress"]["class_id"])

    expected = {1500: exact, 7: exact, 1000: span, 1999: span, 3000: span, 999: default, 2000: default, 3001: default}
    expected |= {65535: default, 15: default}
    assert {port: decided(port) for port in expected} == expected
    one = node.pods[0]
    for port, number in ((53, span), (54, default), (1500, default)):
        result = node.pod(one, udp(one.ip[4], two.ip[4], 9, port))
        assert result.events[0]["ingress"]["class_id"] == number


def test_icmp_is_asked_by_type(node: Node, version: int) -> None:
    one, two, _ = node.pods
    protocol, kind = ((packets.ICMP, 8), (packets.ICMPV6, 128))[version == 6]
    node.policy(two, INGRESS, {(protocol, kind): node.port_class(Level(everybody=True))})

    assert node.pod(one, echo(one.ip[version], two.ip[version], 1)).passed
    assert node.pod(two, echo(two.ip[version], one.ip[version], 1, answer=True)).passed
    other = packets.icmp(one.ip[version], two.ip[version], 13 if version == 4 else 139)
    assert node.pod(one, other).reason == 133


def test_what_is_missing_denies(node: Node) -> None:
    two = node.pods[1]
    node.policy(two, INGRESS, {(TCP, 80): 777}, default=node.port_class(Level(everybody=True)))
    no_class = ask(node, 4)
    node.maps["cp_set_v2"].delete(u32(two.policy_set))
    no_set = ask(node, 4)

    assert (no_class.reason, no_class.events[0]["ingress"]["verdict"]) == (133, NO_POLICY)
    assert no_class.events[0]["ingress"]["class_id"] == 777
    assert (no_set.reason, no_set.events[0]["ingress"]["verdict"]) == (133, NO_POLICY)


def test_levels_this_version_does_not_know_deny(node: Node) -> None:
    two = node.pods[1]
    for verdict, reason, said in ((REDIRECT_TO_PROXY, 180, REDIRECTED), (99, 181, DENIED)):
        node.policy(two, INGRESS, default=node.port_class(Level(verdict, everybody=True), Level(everybody=True)))
        result = ask(node, 4)
        assert (result.reason, result.events[0]["ingress"]["verdict"]) == (reason, said)


def test_a_redirect_is_dropped_while_there_is_no_proxy(node: Node, version: int) -> None:
    """What the rule allows without a look into it is not what it says."""
    one, two, _ = node.pods
    node.vector(1000, 3)
    number = node.port_class(Level(REDIRECT_TO_PROXY, (3,)), Level(everybody=True))
    for pod, direction in ((one, EGRESS), (two, INGRESS)):
        node.vector(2000, 3)
        node.policy(pod, direction, {(TCP, 80): number})
        result = ask(node, version)
        leg = result.events[0]["egress" if direction == EGRESS else "ingress"]
        assert (result.reason, leg["verdict"], leg["class_id"], leg["bit"]) == (180, REDIRECTED, number, 3)
        assert node.metric(180, direction) == 1
        assert len(node.rows(version)[0]) == 0
        node.free(pod)


def test_a_pass_leads_past_the_rest_of_its_tier(node: Node, version: int) -> None:
    """One tier of pass, deny and allow; a tier of allow and deny behind it; what stands at the end."""
    tiers = (Level(PASS, (1,), target=3), Level(DENY, (1,)), Level(bits=(3,)), Level(bits=(2,)), Level(DENY, (1, 3)))
    number = node.port_class(*tiers)
    node.policy(node.pods[1], INGRESS, default=number)
    passed_by = {(1,): (181, 4, 1), (1, 2): (0, 3, 2), (1, 3): (181, 4, 1), (3,): (0, 2, 3), (2, 3): (0, 2, 3)}
    for bits, expected in passed_by.items():
        node.vector(1000, *bits)
        result = ask(node, version, sport=4000 + sum(1 << bit for bit in bits))
        rule = result.events[0]["ingress"]
        assert (result.reason, rule["level"], rule["bit"]) == expected, bits


def test_a_pass_to_the_end_is_a_default_denial(node: Node) -> None:
    for level in (Level(PASS, (1,), target=2), Level(PASS, everybody=True, target=2), Level(PASS, (1,), target=16)):
        node.vector(1000, 1)
        node.policy(node.pods[1], INGRESS, default=node.port_class(level, Level(everybody=True)))
        result = ask(node, 4)
        assert (result.reason, result.events[0]["ingress"]["verdict"]) == (133, DEFAULT_DENIED)


def test_passes_follow_one_another(node: Node) -> None:
    levels = (
        *(Level(PASS, (1,), target=2), Level(DENY, (1,))),
        *(Level(PASS, everybody=True, target=4), Level(DENY, everybody=True)),
        Level(bits=(1,)),
    )
    node.vector(1000, 1)
    node.policy(node.pods[1], INGRESS, default=node.port_class(*levels))
    result = ask(node, 4)
    assert result.passed
    assert (result.events[0]["ingress"]["level"], result.events[0]["ingress"]["bit"]) == (4, 1)


def test_a_pass_that_leads_back_or_nowhere_denies(node: Node) -> None:
    node.vector(1000, 1)
    for target in (0, 1):
        levels = (Level(bits=(9,)), Level(PASS, (1,), target=target), Level(everybody=True))
        node.policy(node.pods[1], INGRESS, default=node.port_class(*levels))
        assert ask(node, 4).reason == 181
        levels = (Level(bits=(9,)), Level(PASS, everybody=True, target=target), Level(everybody=True))
        node.policy(node.pods[1], INGRESS, default=node.port_class(*levels))
        assert ask(node, 4).reason == 181


def test_an_identity_without_a_vector_meets_no_pass(node: Node) -> None:
    levels = (Level(PASS, (1,), target=2), Level(DENY, (9,)), Level(everybody=True))
    node.policy(node.pods[1], INGRESS, default=node.port_class(*levels))
    assert ask(node, 4).reason == 181
    node.vector(1000, 1)
    assert ask(node, 4).passed


def test_both_legs_stand_in_one_row(node: Node, version: int) -> None:
    one, two, _ = node.pods
    out, into = node.port_class(Level(everybody=True)), node.port_class(Level(everybody=True))
    node.policy(one, EGRESS, {(TCP, 80): out})
    node.policy(two, INGRESS, {(TCP, 80): into})

    result = ask(node, version)

    row = node.row(version)
    assert (row["egress"]["class_id"], row["ingress"]["class_id"]) == (out, into)
    assert (result.events[0]["egress"]["class_id"], result.events[0]["ingress"]["class_id"]) == (out, into)


def test_only_the_local_leg_is_judged(node: Node, version: int) -> None:
    one = node.pods[0]
    node.vector(FAR_IDENTITY, 4)
    node.policy(one, EGRESS, {(UDP, 53): node.port_class(Level(bits=(4,)))})

    assert node.pod(one, udp(one.ip[version], FAR[version], 9, 53)).passed
    denied = node.pod(one, udp(one.ip[version], FAR[version], 9, 54))
    assert denied.reason == 133
    assert denied.events[0]["ingress"]["verdict"] == NOT_ASKED


def test_the_host_reaches_its_pods_by_their_policy_alone(node: Node, version: int) -> None:
    one = node.pods[0]
    probe = tcp(ROUTER[version], one.ip[version], 4000, 8080, SYN)
    node.policy(one, INGRESS)
    result = node.host(probe)
    assert (result.reason, result.events[0]["ingress"]["verdict"]) == (133, DEFAULT_DENIED)
    node.policy(one, INGRESS, default=node.open_to_host())
    result = node.host(probe)
    assert result.passed
    assert result.events[0]["ingress"]["verdict"] == ALLOWED

    node.vector(1, 9)
    node.policy(one, INGRESS, default=node.port_class(Level(DENY, (9,))))
    assert node.host(probe).reason == 181
    node.maps["cp_set_v2"].delete(u32(one.policy_set))
    node.bump(one)
    assert node.host(probe).reason == 133


def test_host_is_who_comes_through_the_host_not_who_says_so(node: Node, version: int) -> None:
    one = node.pods[0]
    node.policy(one, INGRESS)

    assert node.netdev(tcp(ROUTER[version], one.ip[version], 1, 80, SYN)).reason == 132
    forwarded = node.host(tcp({4: "198.51.100.8", 6: "2001:db8::8"}[version], one.ip[version], 1, 80, SYN))
    assert forwarded.reason == 133  # the stack forwarded it: the world's
    for pods in (FAR, node.pods[1].ip):
        assert node.host(tcp(pods[version], one.ip[version], 1, 80, SYN)).reason == 132
        assert node.netdev(tcp(pods[version], one.ip[version], 1, 80, SYN)).reason == 132


def test_cidr_identities_are_the_longest_prefix(node: Node, version: int) -> None:
    one = node.pods[0]
    wide, narrow = {4: ("198.51.0.0/16", "198.51.100.0/24"), 6: ("2001:db8::/32", "2001:db8::/64")}[version]
    node.ipcache(wide, 16777217)
    node.ipcache(narrow, 16777218)
    node.vector(16777218, 1)
    node.policy(one, EGRESS, default=node.port_class(Level(bits=(1,))))
    inside, outside = {4: ("198.51.100.8", "198.51.1.8"), 6: ("2001:db8::8", "2001:db8:1::8")}[version]

    assert node.pod(one, udp(one.ip[version], inside, 1, 2)).passed
    assert node.pod(one, udp(one.ip[version], outside, 1, 2)).reason == 133


def test_an_endpoint_that_is_not_ready_is_203(node: Node, version: int) -> None:
    one, two, _ = node.pods
    two.flags = 0
    node.plug(two)

    assert ask(node, version).reason == 203
    assert node.pod(two, udp(two.ip[version], one.ip[version], 1, 2)).reason == 203
    node.maps["cp_link_v1"].delete(u32(one.ifindex))
    assert ask(node, version).reason == 203


def test_a_link_that_names_another_links_endpoint_is_nobodys(node: Node, version: int) -> None:
    one, two, three = node.pods
    node.maps["cp_link_v1"].update(u32(three.ifindex), u32(one.slot))

    assert node.pod(three, udp(one.ip[version], two.ip[version], 1, 2)).reason == 203


def test_a_pod_may_always_talk_to_itself(node: Node, version: int) -> None:
    """What a service sends back to who asked: no rule should be needed for that, and no other pod gains by it."""
    one, two, _ = node.pods
    for direction in (INGRESS, EGRESS):
        node.policy(one, direction)
    ip = one.ip[version]

    for sent in (tcp(ip, ip, 4000, 80, SYN), tcp(ip, ip, 80, 4000, SYN | ACK), udp(ip, ip, 53, 53), echo(ip, ip, 7)):
        result = node.pod(one, sent)
        assert (result.verdict, result.read.eth_dst) == (REDIRECT, one.mac)
    assert node.pod(one, echo(ip, ip, 7, answer=True)).passed
    assert node.pod(one, udp(ip, two.ip[version], 53, 53)).reason == 133
    assert node.pod(two, udp(two.ip[version], ip, 53, 53)).reason == 133
