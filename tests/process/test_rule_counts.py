# SPDX-License-Identifier: Apache-2.0
"""Packets and bytes by policy row, of a real agent: exact, and a rule keeps its count when others change."""

from __future__ import annotations

import pytest

from ciliumpy.cli.bpf.policy_list import read
from ciliumpy.client.target import Target

from .agent_node import policy

pytestmark = pytest.mark.root


def counted(node) -> dict[str, tuple[int, int]]:
    """Packets and bytes of b's ingress, by rule; "default" is what none allows."""
    run = node.run
    rows = read(Target("n1", "test", run, True, run / "agent.sock", run / "hubble.sock", node.bpffs))
    slot = next(row["id"] for row in node.get("/v1/endpoints")["items"] if row["pod"] == "b")
    own = [row for row in rows if row["endpoints"] == [slot] and row["direction"] == "ingress"]
    return {",".join(row["rules"]) or row["peers"][0]: (row["packets"], row["bytes"]) for row in own}


def test_a_rule_counts_its_packets_and_keeps_its_count_when_others_change(node) -> None:
    a, b = node.add("a"), node.add("b")
    node.apply("policy", policy("b-from-a", "b", peer="a"))
    node.until(lambda: node.policy_in_force("b"))
    first, none = "CiliumNetworkPolicy/shop/b-from-a#spec.ingress[0]", "ANY (no row)"
    node.until(lambda: first in counted(node))
    assert counted(node)[first] == (0, 0)

    with b.listen(8080):
        for _ in range(3):
            assert not a.ping(b.addresses[0], timeout_s=0.2)
        with a.connect(b.addresses[0], 8080):
            pass
    before = counted(node)
    assert before[first][0] >= 3, "SYN, ACK, FIN"
    assert before[none][0] == 3, before

    node.apply("more", policy("b-from-c", "b", peer="c", port=9090))
    second = first.replace("b-from-a", "b-from-c")
    node.until(lambda: second in counted(node))
    after = counted(node)
    assert after[first] >= before[first]
    assert after[first][0] <= before[first][0] + 2, "the end of the connection may come late"
    assert after[second] == (0, 0)
    node.delete("policy")
    node.until(lambda: first not in counted(node))
    assert counted(node)[none][0] == 3
