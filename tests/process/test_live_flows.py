# SPDX-License-Identifier: Apache-2.0
"""Real packets through a real agent, read with `ciliumpy observe` and `ciliumpy monitor`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing, suppress

import pytest

from ciliumpy.cli import monitor_direct
from ciliumpy.client.target import Target
from ciliumpy.kit.errors import CiliumpyError

from .agent_node import AgentNode, Pod

pytestmark = pytest.mark.root

OPEN, CLOSED = 8080, 9090


def command(node: AgentNode, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ciliumpy.cli", *arguments],
        env={**os.environ, "CILIUMPY_RUN_DIR": str(node.run)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def observe(node: AgentNode, *arguments: str) -> list[dict]:
    done = command(node, "observe", "-o", "jsonpb", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line)["flow"] for line in done.stdout.splitlines()]


def seen(node: AgentNode, *arguments: str) -> list[dict]:
    """Return the flows that the filter gives, as soon as there are some."""
    return node.until(lambda: observe(node, *arguments))


@pytest.fixture
def pods(node: AgentNode) -> tuple[Pod, Pod, Pod]:
    """Plug three pods in: client may reach server on OPEN, and nobody else may; visitor is a stranger."""
    made = tuple(node.add(name) for name in ("client", "server", "visitor"))
    peer = {"fromEndpoints": [{"matchLabels": {"app": "client"}}]}
    rule = {**peer, "toPorts": [{"ports": [{"port": str(OPEN), "protocol": "TCP"}]}]}
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
    return made


@pytest.mark.parametrize("family", [0, 1], ids=["v4", "v6"])
def test_who_talked_to_whom_and_what_was_dropped(node: AgentNode, pods: tuple[Pod, Pod, Pod], family: int) -> None:
    client, server, visitor = pods
    address = server.addresses[family]
    with server.listen(OPEN):
        client.connect(address, OPEN).close()
        assert not visitor.can_connect(address, OPEN, timeout_s=0.2)
    denied, drop = seen(node, "--from-pod", "shop/visitor", "--verdict", "DROPPED")[:2]
    assert denied["event_type"]["type"] == 5
    assert denied["time"] == drop["time"]
    assert (denied["drop_reason_desc"], denied["traffic_direction"]) == ("POLICY_DENIED", "INGRESS")
    assert drop["drop_reason_desc"] == "POLICY_DENIED"
    assert drop["traffic_direction"] == "INGRESS"
    assert drop["event_type"] == {"type": 1, "sub_type": 133}
    assert drop["l4"]["TCP"]["destination_port"] == OPEN
    assert drop["IP"] == {
        "source": visitor.addresses[family],
        "destination": address,
        "ipVersion": ("IPv4", "IPv6")[family],
    }
    for side, pod in (("source", "visitor"), ("destination", "server")):
        assert (drop[side]["namespace"], drop[side]["pod_name"]) == ("shop", pod)
        assert f"k8s:app={pod}" in drop[side]["labels"]
        assert drop[side]["identity"] >= 256
        assert drop[side]["ID"] > 0

    verdict = seen(node, "-t", "policy-verdict", "--to-pod", "shop/server", "--not", "--verdict", "DROPPED")[0]
    assert (verdict["verdict"], verdict["traffic_direction"]) == ("FORWARDED", "INGRESS")
    assert [policy["name"] for policy in verdict["ingress_allowed_by"]] == ["server"]
    traces = seen(node, "-t", "trace:to-endpoint", "--port", str(OPEN))
    assert (traces[0]["Summary"], traces[0]["is_reply"], traces[0]["trace_reason"]) == ("TCP Flags: SYN", False, "NEW")
    replies = [flow for flow in traces if flow["is_reply"]]
    assert replies[0]["Summary"] == "TCP Flags: SYN, ACK"
    assert replies[0]["source"]["pod_name"] == "server"
    assert observe(node, "--from-pod", "shop/visitor", "--verdict", "FORWARDED") == []


def test_a_forged_source_is_told_by_the_pods_name(node: AgentNode, pods: tuple[Pod, Pod, Pod]) -> None:
    client, server, visitor = pods
    with visitor.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        forged, target = (socket.inet_aton(pod.addresses[0]) for pod in (client, server))
        header = b"\x45\x00\x00\x1c\x00\x01\x00\x00\x40\x11\x00\x00" + forged + target
        raw.sendto(header + (5000).to_bytes(2) + (6000).to_bytes(2) + b"\x00\x08\x00\x00", (server.addresses[0], 0))
    (drop,) = seen(node, "--drop-reason-desc", "INVALID_SOURCE_IP")
    assert drop["source"]["pod_name"] == "visitor"
    assert drop["IP"]["source"] == client.addresses[0]
    assert drop["traffic_direction"] == "EGRESS"


def test_flows_of_the_time_without_an_agent_are_read_afterwards(node: AgentNode, pods: tuple[Pod, Pod, Pod]) -> None:
    _, server, visitor = pods
    assert not visitor.can_connect(server.addresses[0], CLOSED, timeout_s=0.1)
    seen(node, "--to-port", str(CLOSED))
    node.stop(signal.SIGKILL)
    assert not visitor.can_connect(server.addresses[1], CLOSED, timeout_s=0.1)
    node.start()
    (flow,) = seen(node, "--to-port", str(CLOSED), "--last", "1")
    assert flow["IP"]["ipVersion"] == "IPv6"
    assert (flow["source"]["pod_name"], flow["destination"]["pod_name"]) == ("visitor", "server")
    assert len(observe(node, "--to-port", str(CLOSED), "-4")) == 0, "what was read before the kill is not read again"


def test_the_monitor_prints_what_the_kernel_sends(node: AgentNode, pods: tuple[Pod, Pod, Pod]) -> None:
    client, server, visitor = pods
    child = subprocess.Popen(
        [sys.executable, "-m", "ciliumpy.cli", "monitor", "--type", "drop", "-t", "policy-verdict"],
        env={**os.environ, "CILIUMPY_RUN_DIR": str(node.run)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stderr.readline().startswith("Listening for events on ")
        assert child.stderr.readline() == "Press Ctrl-C to quit\n"
        lines: list[str] = []
        os.set_blocking(child.stdout.fileno(), False)

        def both() -> bool:
            # It listens a moment after it has said so: what it did not hear is said again.
            with server.listen(OPEN):
                client.can_connect(server.addresses[0], OPEN, timeout_s=0.1)
                visitor.can_connect(server.addresses[0], OPEN, timeout_s=0.1)
            with suppress(TypeError):  # nothing there
                lines.extend(child.stdout.read().splitlines())
            return any(line.startswith("xx drop") for line in lines) and any("verdict" in line for line in lines)

        node.until(both)
        drop = next(line for line in lines if line.startswith("xx drop"))
        assert drop.startswith("xx drop (Policy denied) flow 0x")
        assert drop.endswith(f" -> {server.addresses[0]}:{OPEN} tcp SYN")
        verdict = next(line for line in lines if line.startswith("Policy verdict log: "))
        assert ", proto 6, ingress, action allow, auth: disabled, match L3-L4, " in verdict
        assert not any(line.startswith("->") for line in lines)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=10)
        assert child.returncode == 130
    finally:
        child.kill()
        child.communicate()


def test_the_rings_are_read_directly_where_no_agent_runs(node: AgentNode, pods: tuple[Pod, Pod, Pod]) -> None:
    _, server, visitor = pods
    there = Target("n1", "", node.run, True, node.run / "agent.sock", node.run / "hubble.sock", node.bpffs)
    with pytest.raises(CiliumpyError, match="the agent of n1 runs and reads its events itself"):
        monitor_direct.events(there._replace(pid=node.process.pid), ())
    with pytest.raises(CiliumpyError, match=f"have a reader already: process {node.process.pid}"):
        next(monitor_direct.events(there, ()))
    node.stop(signal.SIGKILL)
    assert not visitor.can_connect(server.addresses[0], OPEN, timeout_s=0.1)
    with closing(monitor_direct.events(there, ("drop",))) as events:
        name, drop = next(events)
        assert (name, drop["type"], drop["reason"]) == ("n1", "drop", "Policy denied")
        assert drop["summary"]["l3"] == {"src": visitor.addresses[0], "dst": server.addresses[0]}
        assert drop["srcLabel"] >= 256
        assert isinstance(drop["ifindex"], int)
        with pytest.raises(CiliumpyError, match=f"have a reader already: process {os.getpid()}"):
            next(monitor_direct.events(there, ()))
        assert not visitor.can_connect(server.addresses[1], OPEN, timeout_s=0.1)
        while (event := next(events)[1])["summary"]["l3"]["src"] != visitor.addresses[1]:
            pass
        assert event["type"] == "drop"
    node.start()  # the lock is free again


def test_a_stopped_agent_is_told_not_traced(node: AgentNode) -> None:
    node.stop()
    for verb in ("observe", "monitor"):
        done = command(node, verb)
        assert done.returncode == 1
        assert done.stderr.startswith("Error: ")
        assert "Traceback" not in done.stderr
