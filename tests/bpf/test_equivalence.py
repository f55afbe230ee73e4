# SPDX-License-Identifier: Apache-2.0
"""Replaying is deciding: whatever happens, a node that replays gives every packet what one that always decides gives.

The second node's global epoch stays 0, so none of its rows is ever replayed. Both live through the same random life of
packets, forgeries, policy changes, identities that move and pods that come and go.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.bpf import packets
from tests.bpf.node import DENY, EGRESS, FAR, INGRESS, READY, ROUTER, SHOT, TUNNEL, WORLD, Level, Node, Result
from tests.bpf.packets import ACK, FIN, RST, SYN, TCP, UDP, echo, tcp, udp, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root
STEPS = 400
FLAGS = (SYN, SYN, SYN | ACK, ACK, ACK, ACK, FIN | ACK, RST, RST | ACK)
SELECTED = {1000: (1,), 2000: (1, 2), 3000: (3,), 3001: (2, 3), 1: (4,), 9: (5,), 10: (5,), 1001: (6,)}


class Life:
    """One node; `step` does what the dice say, the same on every node with the same dice."""

    def __init__(self, node: Node, seed: int, *, replays: bool) -> None:
        self.node, self.dice, self.replays = node, random.Random(seed), replays
        for identity, bits in SELECTED.items():
            node.vector(identity, *bits)
        self.classes = [
            node.port_class(Level(bits=(1,))),
            node.port_class(Level(DENY, (2,)), Level(everybody=True)),
            node.port_class(Level(bits=(3, 5)), Level(DENY, (4,))),
            node.port_class(Level(everybody=True)),
        ]
        self.recent: list[tuple[int, bytes]] = []  # who sent it, what
        self.bump()

    def bump(self) -> None:
        if self.replays:
            self.node.bump()
        else:
            self.node.maps["cp_epoch_v1"].update(bytes(4), bytes(8))

    def step(self) -> Result | None:
        if self.dice.random() < 0.9:
            return self.packet()
        self.dice.choice((self.policy, self.policy, self.identity, self.tunnel, self.respawn, self.readiness))()
        return None

    def policy(self) -> None:
        pod = self.dice.choice(self.node.pods)
        if self.dice.random() < 0.3:
            self.node.free(pod)
            return
        chosen = {(p, port): self.dice.choice(self.classes) for p, port in ((TCP, 80), (UDP, 53), (1, 8), (58, 128))}
        default = self.dice.choice((0, *self.classes))
        self.node.policy(pod, self.dice.choice((INGRESS, EGRESS)), chosen, default=default)

    def identity(self) -> None:
        peer, version = self.dice.choice((FAR, WORLD)), self.dice.choice((4, 6))
        tunnelled = {"flags": TUNNEL, "tunnel": "192.168.9.2"} if peer is FAR else {}
        self.node.ipcache(peer[version], self.dice.choice((3000, 3001, 16777300)), **tunnelled)
        self.bump()

    def tunnel(self) -> None:
        self.node.ipcache(
            FAR[self.dice.choice((4, 6))], 3000, flags=TUNNEL, tunnel=self.dice.choice(("192.168.9.2", "192.168.9.3"))
        )
        self.bump()

    def respawn(self) -> None:
        pod = self.dice.choice(self.node.pods)
        pod.generation += 1
        pod.identity = self.dice.choice((1000, 2000, 1001))
        self.node.plug(pod)

    def readiness(self) -> None:
        pod = self.dice.choice(self.node.pods)
        pod.flags ^= READY
        self.node.plug(pod)

    def packet(self) -> Result:
        """From anybody to anybody, sometimes in somebody else's name, sometimes one of the last again."""
        dice, version = self.dice, self.dice.choice((4, 6))
        hosts = [*(pod.ip[version] for pod in self.node.pods), FAR[version], WORLD[version], ROUTER[version]]
        source, target = dice.sample(range(6), 2)
        if dice.random() < 0.4 and self.recent:
            source, payload = dice.choice(self.recent)
        else:
            payload = self.payload(hosts[source], hosts[target])
            self.recent = [*self.recent[-7:], (source, payload)]
        sender = source if dice.random() < 0.9 else dice.randrange(6)
        if sender < 3:
            return self.node.pod(self.node.pods[sender], payload)
        if sender == 3:
            return self.node.overlay(payload, vni=dice.choice((3000, 3000, 3001, 2, 6)))
        return self.node.netdev(payload) if sender == 4 else self.node.host(payload)

    def payload(self, source: str, target: str) -> bytes:
        dice = self.dice
        kind, port = dice.random(), dice.choice((4000, 4001))
        ends = (source, target)
        asking = dice.random() < 0.5
        if kind < 0.45:
            return tcp(*ends, *((port, 80) if asking else (80, port)), dice.choice(FLAGS))
        if kind < 0.75:
            return udp(*ends, *((port, 53) if asking else (53, port)), ttl=dice.choice((64, 64, 64, 1)))
        if kind < 0.9 or not self.recent:
            return echo(*ends, 7, answer=not asking)
        _, quoted = dice.choice(self.recent)
        return (
            unreachable(*ends, quoted)
            if quoted[0] >> 4 == (4 if packets.family(source) == 4 else 6)
            else echo(*ends, 8)
        )


@pytest.mark.parametrize("seed", range(12))
def test_replaying_is_deciding(make_node: Callable[..., Node], seed: int) -> None:
    replaying = Life(make_node("overlay_test"), seed, replays=True)
    deciding = Life(make_node("overlay_test"), seed, replays=False)
    passed = 0

    for number in range(STEPS):
        ours, theirs = replaying.step(), deciding.step()
        if ours is None or theirs is None:
            assert ours is theirs
            continue
        assert (ours.verdict, ours.reason) == (theirs.verdict, theirs.reason), f"step {number}"
        assert ours.verdict == SHOT or ours.frame == theirs.frame, f"step {number}"
        passed += ours.passed

    assert passed > STEPS // 10
    replayed = int(deciding.node.maps["cp_flowseq_v2"].lookup(bytes(4))) - int(
        replaying.node.maps["cp_flowseq_v2"].lookup(bytes(4))
    )
    assert replayed > 5  # the one has written rows where the other only replayed
