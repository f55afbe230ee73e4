# SPDX-License-Identifier: Apache-2.0
"""Policy documents decoded, compiled and written into real maps say what the documents say, packet by packet.

The programs are the real ones: a pod's packet to each peer, and each peer's to the pod, against the brute-force
evaluator. A policy that the maps cannot hold counts only where the limit is exceeded, and seldom.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ciliumpy.datapath.epochs import Epochs
from ciliumpy.datapath.policy import PolicyTarget
from ciliumpy.enforcement.encode import Numbers
from ciliumpy.model.drop_reasons import POLICY_DENIED, POLICY_DENY
from ciliumpy.state.database import Database
from ciliumpy.tables.registry import ALL_TABLES
from tests.bpf.node import ENFORCE_EGRESS, ENFORCE_INGRESS, HOST, READY, ROUTER, Node, Result
from tests.bpf.packets import ICMP, SYN, TCP, UDP, echo, tcp, udp
from tests.soak import scaled
from tests.unit.policy import brute
from tests.unit.policy.engine import Engine
from tests.unit.policy.worlds import World, worlds

pytestmark = pytest.mark.root
ASKED = 150  # packets a world
PORTS = ((TCP, 53), (TCP, 80), (TCP, 81), (TCP, 443), (TCP, 8080), (UDP, 53), (UDP, 80), (ICMP, 8))
NO_PROXY = 180  # Proxy redirection not supported for protocol


class Kernel:
    """The node's maps, filled with one world after the other. A peer is an address outside that has its identity."""

    def __init__(self, node: Node) -> None:
        self.node, self._numbers, self._tuple = node, Numbers(), 20_000
        self._target = PolicyTarget(Database(ALL_TABLES), node.maps, Epochs(node.maps), lambda number: False)

    def fill(self, world: World) -> None:
        self.engine = engine = Engine(world, self._numbers)
        self.peers = [*world.pods, *world.others]
        self.address = {end: f"198.51.100.{20 + at}" for at, end in enumerate(self.peers) if not is_host(end)}
        host = {engine.identity[end] for end in self.peers if is_host(end)}
        for known, words in engine.vectors.items():
            number = HOST if known in host else known
            self.node.maps[self.node.width.vectors].update(number.to_bytes(4, "little"), words)
        for end, address in self.address.items():
            self.node.ipcache(address, engine.identity[end])
        assert self._target._install(list(engine.sets.values())) == {}
        asked = [pod for pod in world.pods if pod in engine.sets]
        self.places = dict(zip(asked, self.node.pods, strict=False))
        for pod, place in self.places.items():
            row = engine.sets[pod]
            place.identity, place.policy_set = row.identity, row.id
            place.flags = READY | row.ingress_enforced * ENFORCE_INGRESS | row.egress_enforced * ENFORCE_EGRESS
            self.node.plug(place)
        self.node.bump()

    def empty(self) -> None:
        for row in self.engine.sets.values():
            self._target._remove(row.id)

    def ask(self, pod: brute.End, peer: brute.End, protocol: int, port: int, *, ingress: bool) -> str:
        self._tuple = 20_000 + (self._tuple + 1) % 40_000
        place, far = self.places[pod], self.address.get(peer, ROUTER[4])
        ends = (far, place.ip[4]) if ingress else (place.ip[4], far)
        if protocol == TCP:
            payload = tcp(*ends, self._tuple, port, SYN)
        else:
            payload = udp(*ends, self._tuple, port) if protocol == UDP else echo(*ends, self._tuple)
        if not ingress:
            return said(self.node.pod(place, payload))
        return said(self.node.host(payload) if is_host(peer) else self.node.netdev(payload))


def is_host(end: brute.End) -> bool:
    return end.texts == ("reserved:host",)


def said(result: Result) -> str:
    if result.passed:
        return "allowed"
    assert result.reason in {POLICY_DENIED, POLICY_DENY, NO_PROXY}
    return "redirected" if result.reason == NO_PROXY else "denied"


def test_the_kernel_says_what_the_documents_say(node: Node):
    kernel = Kernel(node)
    sets = refused = packets = 0

    @settings(max_examples=scaled(60), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(worlds(least=2), st.integers(0, 1 << 30))
    def agree(world: World, seed: int) -> None:
        nonlocal sets, refused, packets
        dice = random.Random(seed)
        kernel.fill(world)
        sets += len(world.pods)
        refused += len(kernel.engine.refused)
        for _ in range(ASKED if kernel.places else 0):
            pod, peer, ingress = dice.choice(list(kernel.places)), dice.choice(kernel.peers), dice.random() < 0.5
            ingress |= is_host(peer)  # what pods send to it is judged by its own policy, too
            protocol, port = dice.choice(PORTS)
            wanted = brute.verdict(
                world.documents, pod, peer, ingress=ingress, protocol=protocol, port=port, mode=world.mode
            )
            found = kernel.ask(pod, peer, protocol, port, ingress=ingress)
            assert found == wanted, (pod.texts, peer.texts, peer.address, ingress, protocol, port)
            packets += 1
        kernel.empty()

    agree()
    assert packets > 40 * ASKED
    assert refused * 100 <= sets, "at most one in a hundred does not fit"
