# SPDX-License-Identifier: Apache-2.0
"""Packets and bytes by policy row, of a real agent: exact, and a rule keeps its count when others change."""

from __future__ import annotations

import json
import signal

import pytest

from ciliumpy.cli.bpf.policy_rows import read
from ciliumpy.client.target import Target

from .agent_node import policy

pytestmark = pytest.mark.root


def rows(node) -> list[dict]:
    run = node.run
    return read(Target("n1", "test", run, True, run / "agent.sock", run / "hubble.sock", node.bpffs))


def counted(node) -> dict[str, tuple[int, int]]:
    """Packets and bytes of b's ingress, by rule; "default" is what none allows."""
    slot = next(row["id"] for row in node.get("/v1/endpoints")["items"] if row["pod"] == "b")
    own = [row for row in rows(node) if row["endpoints"] == [slot] and row["direction"] == "ingress"]
    return {",".join(row["rules"]) or row["peers"][0]: (row["packets"], row["bytes"]) for row in own}


def test_a_rule_counts_its_packets_and_keeps_its_count_when_others_change(node) -> None:
    a, b = node.add("a"), node.add("b")
    node.apply("policy", policy("b-from-a", "b", peer="a"))
    node.until(lambda: node.policy_in_force("b"))
    first, none = "CiliumNetworkPolicy/shop/b-from-a#spec.ingress[0]", "ANY (default deny)"
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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_counts_survive_the_agent_and_none_goes_to_another_rule(node, number: int) -> None:
    a, b = node.add("a"), node.add("b")
    node.apply("policy", policy("b-from-a", "b", peer="a"))
    node.apply("gone", policy("gone", "b", peer="a", port=7070))
    rule, gone = (f"CiliumNetworkPolicy/shop/{name}#spec.ingress[0]" for name in ("b-from-a", "gone"))
    node.until(lambda: {rule, gone} <= counted(node).keys())
    with b.listen(8080), b.listen(7070), a.connect(b.addresses[0], 8080) as alive:
        with a.connect(b.addresses[0], 7070):
            assert not a.ping(b.addresses[0], timeout_s=0.2)
        before = counted(node)
        assert before[rule][0] >= 2
        assert before[gone][0] >= 3
        node.until(lambda: kept(node) == {row["stat"] for row in rows(node)} - {0})

        node.stop(number)
        alive.sendall(b"x" * 5000)
        node.delete("gone")
        node.apply("new", policy("new", "b", peer="a", port=9090))
        node.start()
        new = rule.replace("b-from-a", "new")
        node.until(lambda: new in counted(node) and gone not in counted(node))
        after = counted(node)
        assert after[new] == (0, 0)
        assert before[rule][0] < after[rule][0] < before[rule][0] + 20
        assert after[rule][1] > before[rule][1] + 5000, "what passed while there was no agent"
        assert after["ANY (default deny)"] == before["ANY (default deny)"]
        alive.sendall(b"x")
        node.until(lambda: counted(node)[rule][0] > after[rule][0])


def kept(node) -> set[int]:
    """Places whose rules are on disk."""
    path = node.run / "counts.json"
    return {int(place) for place in json.loads(path.read_text())} if path.exists() else set()
