# SPDX-License-Identifier: Apache-2.0
"""Two agents on one store: pods reach each other through the tunnel, with their identities."""

from __future__ import annotations

import signal

import pytest

from .agent_node import AgentNode, Place, passes, policy
from .probe import Probe

pytestmark = pytest.mark.root


@pytest.fixture
def nodes(make_node) -> tuple[AgentNode, AgentNode]:
    first = make_node()
    second = make_node(beside=first)
    first.start()
    second.start()
    return first, second


def reach(source: Place, addresses: tuple[str, str], port: int = 8080) -> None:
    """Assert that TCP gets through, after the other node has been heard of."""
    for address in addresses:
        for _ in range(100):
            if source.can_connect(address, port, 0.1):
                break
        else:
            raise AssertionError(address)


def test_pods_of_two_nodes_reach_each_other(nodes: tuple[AgentNode, AgentNode]) -> None:
    first, second = nodes
    a, b = first.add("a"), second.add("b")
    assert first.get("/v1/status")["ipam"]["ipv4"]["cidr"] != second.get("/v1/status")["ipam"]["ipv4"]["cidr"]
    with a.listen(8080), b.listen(8080):
        reach(a, b.addresses)
        reach(b, a.addresses)
        reach(first.place, b.addresses)
        reach(first.world, b.addresses)
        for address in (*b.addresses, "10.244.1.1", "fd00:10:244:1::1", "172.30.7.2", "fd00:30:7::2"):
            assert a.ping(address), address
            assert first.place.ping(address), address
        with a.connect(b.addresses[1], 8080) as connection:
            connection.sendall(b"x" * 500_000)
    assert {row["name"] for row in first.get("/v1/nodes")["items"]} == {"n1", "n2"}
    entry = next(r for r in first.get("/v1/ipcache")["items"] if r["prefix"] == f"{b.addresses[0]}/32")
    assert entry["identity"] == second.get("/v1/endpoints")["items"][0]["identity"]


def test_policy_holds_across_nodes_and_over_the_death_of_both_agents(nodes: tuple[AgentNode, AgentNode]) -> None:
    first, second = nodes
    a, c, b, d = first.add("a"), first.add("c"), second.add("b"), second.add("d")
    second.apply("policy", policy("b-from-a", "b", peer="a"))
    second.until(lambda: second.policy_in_force("b"))
    with b.listen(8080), d.listen(8080):
        reach(a, b.addresses)
        reach(c, d.addresses)
        for address in b.addresses:
            assert not c.can_connect(address, 8080, 0.3)
            assert not d.can_connect(address, 8080, 0.3)
            assert not first.place.can_connect(address, 8080, 0.3), "another node is not the host"
        probes = [Probe(c, d, address) for address in d.addresses]
        with a.connect(b.addresses[0], 8080) as alive:
            for node in nodes:
                node.stop(signal.SIGKILL)
            assert passes(alive)
            assert a.can_connect(b.addresses[1], 8080)
            assert not c.can_connect(b.addresses[0], 8080, 0.3)
            for node in nodes:
                node.start(wait=False)
            for node in nodes:
                node.until(lambda node=node: node.health() == "ok", 25.0)
            assert passes(alive)
            assert a.can_connect(b.addresses[0], 8080)
            assert not c.can_connect(b.addresses[1], 8080, 0.3)
        assert [probe.stop() for probe in probes] == [0, 0]


def test_a_pod_that_goes_is_gone_everywhere(nodes: tuple[AgentNode, AgentNode]) -> None:
    first, second = nodes
    a, b = first.add("a"), second.add("b")
    prefix = f"{b.addresses[0]}/32"
    first.until(lambda: any(row["prefix"] == prefix for row in first.get("/v1/ipcache")["items"]))
    assert a.ping(b.addresses[0])
    second.cni("DEL", b)
    first.until(lambda: not any(row["prefix"] == prefix for row in first.get("/v1/ipcache")["items"]))
    assert not a.ping(b.addresses[0], timeout_s=0.3)
