# SPDX-License-Identifier: Apache-2.0
"""Every packet's event is seen, told as lost, or counted as held back: real packets, the sum exact."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest

from tests.soak import scaled

from .agent_node import AgentNode, Pod

pytestmark = pytest.mark.root

OPEN, CLOSED = 8080, 9090
HOLDS = (1 << 16) // 128 - 1  # records in a ring of 64 KiB
SMALL_RINGS = {"ringBytes": 1 << 16, "dropEventsPerSecond": 0}


class Counts(NamedTuple):
    """The agent's events and losses; the kernel's attempts, failures and held-back drops."""

    events: int
    lost: int
    attempted: int
    failed: int
    held_back: int


def counts(node: AgentNode) -> Counts:
    said = node.get("/v1/status")["hubble"]
    with node.map("cp_evstate_v1") as states:
        state = states.lookup(bytes(4))
    return Counts(said["events"], said["lost"], *(int(state[name].sum()) for name in ("seq", "lost", "held_back")))


def settled(node: AgentNode) -> Counts:
    """Return the counts when all is told, and nothing more comes."""

    def whole() -> Counts | None:
        now = counts(node)
        return now if now.events + now.lost == now.attempted and now == counts(node) else None

    return node.until(whole, 20.0)


def minus(now: Counts, then: Counts) -> Counts:
    return Counts(*(a - b for a, b in zip(now, then, strict=True)))


def prepare(node: AgentNode) -> tuple[Pod, Pod]:
    """Plug in two pods; the client may send to the server's OPEN and to nothing else of it."""
    node.start()
    client, server = node.add("client"), node.add("server")
    rule = {
        "fromEndpoints": [{"matchLabels": {"app": "client"}}],
        "toPorts": [{"ports": [{"port": str(OPEN), "protocol": "UDP"}]}],
    }
    node.apply(
        "policy",
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "server", "namespace": "shop"},
            "spec": {"endpointSelector": {"matchLabels": {"app": "server"}}, "ingress": [rule]},
        },
    )
    node.until(lambda: node.policy_in_force("server"))
    return client, server


@contextmanager
def on_one_cpu() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def send(client: Pod, server: Pod, count: int, port: int = CLOSED) -> None:
    """Send datagrams, each of a source port of its own as long as there are some."""
    with on_one_cpu():
        for start in range(0, count, 500):
            with client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for _ in range(min(500, count - start)):
                    sender.sendto(b"x", (server.addresses[0], port))


def test_a_stream_that_the_rings_have_room_for_is_seen_whole(make_node) -> None:
    node = make_node(hubble={"dropEventsPerSecond": 0})
    client, server = prepare(node)
    before = settled(node)
    for number in range(1, scaled(5) + 1):
        send(client, server, 4000)  # half of what a ring holds, however late the agent comes to read
        assert minus(settled(node), before) == Counts(4000 * number, 0, 4000 * number, 0, 0)


def test_an_overrun_is_told_to_the_last_event(make_node) -> None:
    node = make_node(hubble=SMALL_RINGS)
    client, server = prepare(node)
    for extra in (0, 1, 3 * HOLDS):
        before = settled(node)
        node.process.send_signal(signal.SIGSTOP)
        try:
            send(client, server, HOLDS + extra)
        finally:
            node.process.send_signal(signal.SIGCONT)
        # Nothing comes after the last lost one that would show the gap: the kernel's own count does.
        found = minus(settled(node), before)
        assert found.attempted == HOLDS + extra
        assert (found.events, found.lost, found.failed) == (HOLDS, extra, extra)
    said = subprocess.run(
        [sys.executable, "-m", "ciliumpy.cli", "observe", "--last", "1"],
        env={**os.environ, "CILIUMPY_RUN_DIR": str(node.run)},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert f"EVENTS LOST: PERF_EVENT_RING_BUFFER CPU(0) {3 * HOLDS}\n" in said.stdout


def test_what_the_limit_holds_back_is_counted_and_no_loss(make_node) -> None:
    node = make_node(hubble={"dropEventsPerSecond": 100, "dropEventBurst": 50})
    client, server = prepare(node)
    before = settled(node)
    send(client, server, 3000)
    found = minus(settled(node), before)
    assert found.events + found.held_back == 3000
    assert found.events >= 50
    assert found.held_back > 1000
    assert (found.lost, found.failed) == (0, 0)
    # What is allowed has no limit.
    with server.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("", OPEN))
        before = settled(node)
        with ExitStack() as opened:  # together, so that no port is given out twice
            for _ in range(200):
                sender = opened.enter_context(client.socket(socket.AF_INET, socket.SOCK_DGRAM))
                sender.sendto(b"x", (server.addresses[0], OPEN))
        found = minus(settled(node), before)
        assert (found.events, found.held_back) == (200, 0)
