# SPDX-License-Identifier: Apache-2.0
"""Audit mode: what policy of an endpoint denies passes and is told of; what is not policy's stays denied."""

from __future__ import annotations

import pytest

from tests.bpf.node import (
    ALLOWED,
    AUDIT,
    AUDITED,
    DEFAULT_DENIED,
    DENIED,
    DENY,
    EGRESS,
    FLOW,
    INGRESS,
    NO_POLICY,
    REDIRECT_TO_PROXY,
    REDIRECTED,
    Level,
    Node,
    Pod,
    Result,
    u32,
)
from tests.bpf.packets import ACK, SYN, icmp, tcp, udp

pytestmark = pytest.mark.root


def ask(node: Node, version: int, flags: int = SYN, sport: int = 4000) -> Result:
    one, two, _ = node.pods
    return node.pod(one, tcp(one.ip[version], two.ip[version], sport, 80, flags))


def audit(node: Node, pod: Pod, *, on: bool = True) -> None:
    pod.flags = pod.flags | AUDIT if on else pod.flags & ~AUDIT
    node.plug(pod)


def test_every_denial_of_policy_passes_and_says_whose_it_is(node: Node, version: int) -> None:
    two = node.pods[1]
    audit(node, two)
    node.vector(1000, 3)
    levels = {
        DEFAULT_DENIED: Level(bits=(9,)),
        DENIED: Level(DENY, (3,)),
        REDIRECTED: Level(REDIRECT_TO_PROXY, (3,)),
    }
    for sport, (said, level) in enumerate(levels.items(), 4000):
        number = node.port_class(level)
        node.policy(two, INGRESS, default=number)
        result = ask(node, version, sport=sport)
        assert result.passed
        (event,) = result.events
        assert (event["type"], event["ingress"]["verdict"]) == (FLOW, AUDITED | said)
        if said != DEFAULT_DENIED:
            assert (event["ingress"]["class_id"], event["ingress"]["bit"]) == (number, 3)


def test_what_is_allowed_is_not_audited(node: Node) -> None:
    two = node.pods[1]
    audit(node, two)
    node.policy(two, INGRESS, default=node.port_class(Level(everybody=True)))
    assert ask(node, 4).events[0]["ingress"]["verdict"] == ALLOWED


def test_each_end_is_audited_for_itself(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(one, EGRESS)
    node.policy(two, INGRESS)
    audit(node, one)
    result = ask(node, version)
    assert result.reason == 133
    verdicts = [result.events[0][leg]["verdict"] for leg in ("egress", "ingress")]
    assert verdicts == [AUDITED | DEFAULT_DENIED, DEFAULT_DENIED]
    audit(node, two)
    assert ask(node, version).passed
    audit(node, one, on=False)
    assert ask(node, version, sport=4001).reason == 133


def test_an_audited_connection_is_replayed_and_cut_when_the_mode_ends(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(two, INGRESS)
    audit(node, two)
    back = [tcp(two.ip[version], one.ip[version], 80, 4000, flags) for flags in (SYN | ACK, ACK)]
    assert ask(node, version).passed
    assert node.pod(two, back[0]).passed
    for _ in range(3):
        assert ask(node, version, ACK).passed
        assert node.pod(two, back[1]).passed
    row = node.row(version)
    assert row["ingress"]["verdict"] == AUDITED | DEFAULT_DENIED
    assert row["half"][0]["verdict"] == 1
    nonce = row["nonce"]
    assert ask(node, version, ACK).passed
    assert node.row(version)["nonce"] == nonce, "it was decided anew, not replayed"

    audit(node, two, on=False)
    assert ask(node, version, ACK).reason == 133
    assert not node.pod(two, back[1]).passed


def test_a_flow_that_was_denied_passes_when_the_mode_begins(node: Node, version: int) -> None:
    two = node.pods[1]
    node.policy(two, INGRESS)
    assert ask(node, version).reason == 133
    audit(node, two)
    assert ask(node, version).passed


def test_datagrams_and_what_has_no_row_are_audited_too(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(two, INGRESS)
    audit(node, two)
    for sent in (
        udp(one.ip[version], two.ip[version], 9, 53),
        icmp(one.ip[version], two.ip[version], 13 if version == 4 else 139),
    ):
        result = node.pod(one, sent)
        assert result.passed
        assert result.events[0]["ingress"]["verdict"] == AUDITED | DEFAULT_DENIED


def test_what_is_not_policys_stays_denied(node: Node, version: int) -> None:
    one, two, three = node.pods
    for pod in (one, two):
        node.policy(pod, INGRESS)
        audit(node, pod)
    forged = node.pod(one, udp(three.ip[version], two.ip[version], 1, 2))
    assert forged.reason == 132
    node.maps["cp_set_v2"].delete(u32(two.policy_set))
    node.bump(two)
    lost = ask(node, version)
    assert (lost.reason, lost.events[0]["ingress"]["verdict"]) == (133, NO_POLICY)
    two.flags = AUDIT
    node.plug(two)
    assert ask(node, version).reason == 203
