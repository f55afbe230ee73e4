# SPDX-License-Identifier: Apache-2.0
"""A storm of drops: told to the limit that is configured, counted to the last packet, and shown."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from .agent_node import drops, policy

pytestmark = pytest.mark.root

RATE, BURST = 500, 100
POLICY_DENIED = 133
SENDERS, EACH = 2, 15_000


def test_a_storm_is_told_to_the_limit_and_counted_to_the_last(make_node) -> None:
    node = make_node(hubble={"dropEventsPerSecond": RATE, "dropEventBurst": BURST})
    node.start()
    a, b = node.add("a"), node.add("b")
    node.apply("policy", policy("b-from-nobody", "b", peer="nobody"))
    node.until(lambda: node.policy_in_force("b"))
    before, dropped = node.get("/v1/status")["hubble"], drops(node, POLICY_DENIED)

    def storm(number: int) -> None:
        with a.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect((b.addresses[0], 7 + number))
            for _ in range(EACH):
                sender.send(b"x")

    began = time.monotonic()
    senders = [threading.Thread(target=storm, args=(number,)) for number in range(SENDERS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    took_s = time.monotonic() - began
    assert drops(node, POLICY_DENIED) - dropped == SENDERS * EACH

    def counted() -> dict[str, int]:
        hubble = node.get("/v1/status")["hubble"]
        return {key: hubble[key] - before[key] for key in ("seen", "lost", "heldBack")}

    def told() -> int:
        found = counted()
        return SENDERS * EACH - found["heldBack"] - found["lost"]

    # A drop by policy is two flows: the verdict, and the drop.
    node.until(lambda: counted()["seen"] >= 2 * told())
    found = counted()
    assert found["seen"] == 2 * told(), found
    cpus = os.cpu_count() or 1
    assert BURST <= told() <= cpus * (RATE * took_s + BURST), found
    assert found["lost"] == 0
