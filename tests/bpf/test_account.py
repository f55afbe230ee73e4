# SPDX-License-Identifier: Apache-2.0
"""Packets and bytes by rule: every one of the original direction once, whoever decides and however often it changes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.bpf.node import AUDIT, DENY, EGRESS, INGRESS, ROUTER, Level, Node
from tests.bpf.packets import ACK, FIN, RST, SYN, TCP, icmp, tcp, udp

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root
OUT, IN, DENIED_AT, NONE_MEETS, OTHER = 11, 12, 13, 14, 15


def talk(node: Node, version: int, count: int, *, sport: int = 4000, body: bytes = b"") -> int:
    """One to two and back, `count` times over UDP; bytes of a question."""
    one, two, _ = node.pods
    question = udp(one.ip[version], two.ip[version], sport, 53, body)
    answer = udp(two.ip[version], one.ip[version], 53, sport, b"longer than it")
    for _ in range(count):
        assert node.pod(one, question).passed
        assert node.pod(two, answer).passed
    return len(question)


def test_a_flow_counts_for_both_its_rules_and_in_its_original_direction_only(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(one, EGRESS, default=node.port_class(Level(everybody=True, stat=OUT)))
    node.policy(two, INGRESS, default=node.port_class(Level(bits=(9,)), Level(everybody=True, stat=IN)))

    size = talk(node, version, 5)

    assert node.counted(OUT) == node.counted(IN) == (5, 5 * size)


def test_denials_count_for_who_denied_and_who_allowed(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.vector(1000, 3)
    node.policy(one, EGRESS, default=node.port_class(Level(everybody=True, stat=OUT)))
    node.policy(two, INGRESS, default=node.port_class(Level(DENY, (3,), stat=DENIED_AT)), denied_stat=NONE_MEETS)
    denied = tcp(one.ip[version], two.ip[version], 4000, 80, SYN)

    for _ in range(3):
        assert node.pod(one, denied).reason == 181
    assert node.counted(OUT) == node.counted(DENIED_AT) == (3, 3 * len(denied))
    node.vector(1000)
    assert node.pod(one, denied).reason == 133
    assert node.counted(NONE_MEETS) == (1, len(denied))
    assert node.counted(OUT) == (4, 4 * len(denied))


def test_a_direction_without_any_class_counts_its_denials(node: Node) -> None:
    one, two, _ = node.pods
    node.policy(two, INGRESS, denied_stat=NONE_MEETS)
    assert node.pod(one, tcp(one.ip[4], two.ip[4], 4000, 80, SYN)).reason == 133
    assert node.counted(NONE_MEETS)[0] == 1


def test_what_has_no_row_counts_too(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(two, INGRESS, default=node.port_class(Level(everybody=True, stat=IN)))
    ends = (one.ip[version], two.ip[version])

    for count, sent in enumerate(
        (icmp(*ends, 13 if version == 4 else 139), tcp(*ends, 7, 80, RST), tcp(*ends, 7, 80, FIN))
    ):
        assert node.pod(one, sent).passed
        assert node.counted(IN)[0] == count + 1
    assert len(node.rows(version)[0]) == 0


def test_a_counter_that_is_taken_over_loses_nothing(make_node: Callable[..., Node], version: int) -> None:
    """One counter for all flows: each packet takes it from the flow before."""
    node = make_node(sizes={"cp_counter_v3": 1}, cfg_counters=1)
    one, two, _ = node.pods
    node.policy(one, EGRESS, default=node.port_class(Level(everybody=True, stat=OUT)))
    node.policy(two, INGRESS, default=node.port_class(Level(everybody=True, stat=IN)))

    size = 0
    for _ in range(3):
        for sport in (4000, 4001, 4002):
            size = talk(node, version, 1, sport=sport)

    assert node.counted(OUT) == node.counted(IN) == (9, 9 * size)


def test_a_flow_that_another_rule_decides_counts_for_that_from_then_on(node: Node, version: int) -> None:
    two = node.pods[1]
    node.policy(two, INGRESS, default=node.port_class(Level(everybody=True, stat=IN)))
    size = talk(node, version, 4)
    before = node.row(version)

    node.policy(two, INGRESS, default=node.port_class(Level(everybody=True, stat=OTHER)))
    talk(node, version, 3)

    assert (node.counted(IN), node.counted(OTHER)) == ((4, 4 * size), (3, 3 * size))
    after = node.row(version)
    assert (before["flow"], before["counter"]) != (after["flow"], after["counter"])
    assert _live(node, int(after["flow"])) == (7, 7)


def test_a_flow_whose_rule_was_only_written_anew_goes_on(node: Node, version: int) -> None:
    two = node.pods[1]
    for _ in range(2):
        node.policy(two, INGRESS, default=node.port_class(Level(everybody=True, stat=IN)))
        size = talk(node, version, 2)
    assert node.counted(IN) == (4, 4 * size)
    assert _live(node, int(node.row(version)["flow"])) == (4, 4)


def test_a_connection_that_is_cut_counts_for_who_cuts_it(node: Node, version: int) -> None:
    one, two, _ = node.pods
    node.policy(two, INGRESS, default=node.port_class(Level(everybody=True, stat=IN)))
    for flags in (SYN, ACK, ACK):
        node.pod(one, tcp(one.ip[version], two.ip[version], 4000, 80, flags))
    node.policy(two, INGRESS, denied_stat=NONE_MEETS)
    assert node.pod(one, tcp(one.ip[version], two.ip[version], 4000, 80, ACK)).reason == 133
    assert node.pod(two, tcp(two.ip[version], one.ip[version], 80, 4000, ACK)).reason == 133  # a reply: counts nowhere
    assert (node.counted(IN)[0], node.counted(NONE_MEETS)[0]) == (3, 1)


def test_what_is_audited_counts_for_who_would_have_denied(node: Node, version: int) -> None:
    two = node.pods[1]
    two.flags |= AUDIT
    node.vector(1000, 3)
    node.policy(two, INGRESS, default=node.port_class(Level(DENY, (3,), stat=DENIED_AT)), denied_stat=NONE_MEETS)
    size = talk(node, version, 3)
    assert node.counted(DENIED_AT) == (3, 3 * size)
    node.vector(1000)
    size = talk(node, version, 2, sport=4001)
    assert node.counted(NONE_MEETS) == (2, 2 * size)


def test_the_host_counts_as_everybody_does(node: Node, version: int) -> None:
    one = node.pods[0]
    probe = tcp(ROUTER[version], one.ip[version], 4000, 80, SYN)
    node.policy(one, INGRESS, default=node.open_to_host(), denied_stat=NONE_MEETS)
    assert node.host(probe).passed
    assert node.counted(NONE_MEETS) == (0, 0)
    node.policy(one, INGRESS, denied_stat=NONE_MEETS)
    assert node.host(probe).reason == 133
    assert node.counted(NONE_MEETS)[0] == 1


def test_a_rule_that_is_not_counted_disturbs_nobody(node: Node) -> None:
    one, two, _ = node.pods
    node.policy(two, INGRESS, {(TCP, 80): node.port_class(Level(everybody=True, stat=60000))}, denied_stat=65535)
    assert node.pod(one, tcp(one.ip[4], two.ip[4], 4000, 80, SYN)).passed
    assert node.pod(one, tcp(one.ip[4], two.ip[4], 4000, 81, SYN)).reason == 133
    _, summed = node.maps["cp_rulestat_v2"].items()
    assert not summed["packets"].any()


def test_counts_of_several_cpus_add_up_and_stay_with_their_rule(node: Node, version: int) -> None:
    two = node.pods[1]
    cpus = sorted(os.sched_getaffinity(0))
    try:
        for rule, stat in enumerate((IN, OTHER)):
            node.policy(two, INGRESS, default=node.port_class(Level(everybody=True, stat=stat)))
            for cpu in cpus[rule:] + cpus[:rule]:
                os.sched_setaffinity(0, {cpu})
                size = talk(node, version, 2)
        assert node.counted(IN) == node.counted(OTHER) == (2 * len(cpus), 2 * len(cpus) * size)
        assert _live(node, int(node.row(version)["flow"])) == (4 * len(cpus), 4 * len(cpus))
    finally:
        os.sched_setaffinity(0, cpus)


def test_counts_go_on_beyond_32_bits(node: Node, version: int) -> None:
    """Of the flow, of its rules while it lives, and when its counter goes to another."""
    two = node.pods[1]
    node.policy(two, INGRESS, default=node.port_class(Level(everybody=True, stat=IN)))
    size = talk(node, version, 1)
    row, most = node.row(version), (1 << 32) - 1
    counters = node.maps["cp_counter_v3"]
    key = int(row["counter"]).to_bytes(4, "little")
    cells = counters.lookup(key)
    cells["packets"][cells["flow"] == row["flow"]] = most
    counters.update(key, cells.tobytes())

    talk(node, version, 2)

    assert _live(node, int(row["flow"])) == (most + 2, most + 2)
    assert node.counted(IN) == (most + 2, 3 * size)
    node.policy(two, INGRESS, default=node.port_class(Level(everybody=True, stat=OTHER)))
    talk(node, version, 1)
    assert (node.counted(IN)[0], node.counted(OTHER)[0]) == (most + 2, 1)
    assert _live(node, int(node.row(version)["flow"])) == (most + 3, most + 3)


def test_flows_that_there_are_counters_for_share_none(node: Node, version: int) -> None:
    """However often their rows are written: an answered flow's is written twice."""
    for sport in range(4000, 4016):
        talk(node, version, 1, sport=sport)
    _, rows = node.rows(version)
    assert sorted(rows["counter"].tolist()) == list(range(int(min(rows["counter"])), int(min(rows["counter"])) + 16))


def _live(node: Node, flow: int) -> tuple[int, int]:
    """Packets of a flow, each direction, as its events have them."""
    _, live = node.maps["cp_counter_v3"].items()
    ours = live["packets"][live["flow"] == flow].sum(axis=0)
    return int(ours[0]), int(ours[1])
