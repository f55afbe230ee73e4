# SPDX-License-Identifier: Apache-2.0
"""Agents of two nodes are killed and started again under traffic: nothing is lost, nothing judged wrongly."""

from __future__ import annotations

import signal
import socket

import pytest

from tests.soak import scaled

from .agent_node import AgentNode, Pod, passes, policy
from .probe import Probe
from .test_agent_nodes import nodes, reach  # noqa: F401 - a fixture

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]


def datagram_passes(source: Pod, target: Pod, address: str) -> bool:
    """Send one of a new flow, and look whether it came within the time of some round trips."""
    with target.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as receiving:
        receiving.bind((address, 0))
        receiving.settimeout(0.2)
        with source.socket(receiving.family, socket.SOCK_DGRAM) as sending:
            sending.sendto(b"x", receiving.getsockname()[:2])
            try:
                return receiving.recv(16) == b"x"
            except TimeoutError:
                return False


def judge(allowed: Pod, denied: Pod, target: Pod) -> list[str]:
    """Return the verdicts on new flows that are wrong, TCP and UDP of both families."""
    wrong = []
    for address in target.addresses:
        for who, wanted in ((allowed, True), (denied, False)):
            if who.can_connect(address, 8080, 1.0 if wanted else 0.2) != wanted:
                wrong.append(f"TCP {who.name} to {address}")
            if datagram_passes(who, target, address) != wanted:
                wrong.append(f"UDP {who.name} to {address}")
    return wrong


def test_rounds_of_kill_and_start(nodes: tuple[AgentNode, AgentNode]) -> None:  # noqa: F811
    first, second = nodes
    near, far = first.add("near"), second.add("far")
    allowed, denied, peer = first.add("allowed"), first.add("denied"), second.add("peer")
    for node, name in ((first, "near"), (second, "far")):
        rules = policy(f"{name}-from-allowed", name, peer="allowed")
        del rules["spec"]["ingress"][0]["toPorts"]
        node.apply(f"policy-{name}", rules)
        node.until(lambda node=node, name=name: node.policy_in_force(name))
    with near.listen(8080), far.listen(8080), peer.listen(8080):
        reach(allowed, far.addresses)
        reach(denied, peer.addresses)
        probes = [Probe(allowed, target, address) for target in (near, far) for address in target.addresses]
        living = [allowed.connect(address, 8080) for target in (near, far) for address in target.addresses]
        wrong: list[str] = []
        try:
            for _ in range(scaled(2)):
                for node in nodes:
                    node.stop(signal.SIGKILL)
                wrong += [f"down: {each}" for target in (near, far) for each in judge(allowed, denied, target)]
                for node in nodes:
                    node.start(wait=False)
                # While they start, before they say that all is carried over.
                wrong += [f"starting: {each}" for target in (near, far) for each in judge(allowed, denied, target)]
                for node in nodes:
                    node.until(lambda node=node: node.health() == "ok", 25.0)
                wrong += [f"up: {each}" for target in (near, far) for each in judge(allowed, denied, target)]
                assert all(passes(connection) for connection in living)
        finally:
            lost = [probe.stop() for probe in probes]
            for connection in living:
                connection.close()
    assert wrong == []
    assert lost == [0, 0, 0, 0]
    assert all(probe.sent > 500 for probe in probes)
    for node in nodes:
        assert "Traceback" not in node.log()
