# SPDX-License-Identifier: Apache-2.0
"""Many pods: a hundred at once, and a hundred again and again, after which nothing is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ciliumpy.cni import agent, install
from ciliumpy.cni.protocol import Request
from tests.soak import scaled

from .agent_node import AgentNode, Pod
from .cni_runtime import Network, PluginError
from .test_cni_chain import OURS

pytestmark = pytest.mark.root

PODS = 100


def make(node: AgentNode, count: int) -> list[Pod]:
    """Namespaces of pods that the store knows, none of them plugged in."""
    names = [f"p{number}" for number in range(count)]
    node.know(*names)
    for name in names:
        node.pods[name] = Pod(name, node.folder / f"ns-{name}")
    node.until(lambda: {r["row"]["name"] for r in node.get("/v1/statedb/pods")["items"]} >= set(names))
    return [node.pods[name] for name in names]


def ask(node: AgentNode, command: str, each: Pod) -> None:
    request = Request(each.container, "eth0", str(each.path), each.namespace, each.name)
    agent.ask(str(node.run / "cni.sock"), request.message(command), each.fd, 60)


def all_at_once(node: AgentNode, command: str, pods: list[Pod]) -> None:
    """Ask for all in as many threads. CniError: one failed. How long it takes is for `make bench BENCH=churn`."""
    with ThreadPoolExecutor(len(pods)) as threads:
        list(threads.map(lambda each: ask(node, command, each), pods))


def traces(node: AgentNode) -> dict[str, Any]:
    """All that a pod leaves somewhere while it is there."""
    assert node.process is not None
    rows = {}
    for name in ("cp_endpoint_v1", "cp_link_v1", "cp_local_v1"):
        with node.map(name) as map_:
            keys, values = map_.items()
            rows[name] = int((values["generation"] != 0).sum()) if name == "cp_endpoint_v1" else len(keys)
    status = node.get("/v1/status")
    return {
        "links": sorted(node.devices()),
        "pins": sorted(path.name for path in (node.bpffs / "links").iterdir()),
        "records": sorted(path.name for path in (node.state / "endpoints").glob("*")),
        "store": sorted(path.name for path in (node.store / "ciliumendpoints").rglob("*.yaml")),
        "run": sorted(path.name for path in node.run.iterdir()),
        "ipam": {family: pool["allocated"] for family, pool in status["ipam"].items()},
        "ipcache": len(node.get("/v1/statedb/ipcache")["items"]),
        "requests": len(node.get("/v1/statedb/identity-requests")["items"]),
        "descriptors": len(list(Path(f"/proc/{node.process.pid}/fd").iterdir())),
        **rows,
    }


def memory_kb(node: AgentNode) -> int:
    """Anonymous memory of the agent."""
    assert node.process is not None
    text = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("RssAnon")))


@pytest.mark.timeout(900)
def test_a_hundred_pods_at_once_and_nothing_is_left(node: AgentNode) -> None:
    pods = make(node, PODS)
    all_at_once(node, "ADD", pods[:10])  # threads, sockets and identities that stay are there after this
    all_at_once(node, "DEL", pods[:10])
    node.until(lambda: traces(node)["store"] == [])
    before, memory = traces(node), []
    for _ in range(scaled(2)):
        all_at_once(node, "ADD", pods)
        rows = node.get("/v1/endpoints")["items"]
        assert {row["state"] for row in rows} == {"ready"}
        assert len({row["ipv4"] for row in rows}) == PODS
        far = next(row["ipv4"] for row in rows if row["pod"] == pods[-1].name)
        assert pods[0].ping(far)
        all_at_once(node, "DEL", pods)
        node.until(lambda: traces(node) == before, 20.0)
        memory.append(memory_kb(node))
    half = len(memory) // 2
    assert max(memory[half:]) < max(memory[:half]) + 8_000, memory
    assert "Traceback" not in node.log()


def test_a_plugin_that_is_killed_in_the_middle_leaves_what_del_removes(node: AgentNode) -> None:
    """The runtime's next step after a call that ended so is DEL; the agent may be anywhere in its work by then."""
    (each,) = make(node, 1)
    net = Network(node, [OURS], version="1.1.0")
    before = traces(node)
    for number in range(scaled(5)):
        environment = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": each.container,
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": str(each.path),
            "CNI_ARGS": f"K8S_POD_NAMESPACE={each.namespace};K8S_POD_NAME={each.name}",
        }
        config = (
            f'{{"cniVersion": "1.1.0", "name": "net", "type": "ciliumpy-cni", "agentSocket": "{node.run}/cni.sock"}}'
        )
        plugin = subprocess.Popen(install.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert plugin.stdin is not None
        plugin.stdin.write(config.encode())
        plugin.stdin.close()
        if number % 2:  # once it has begun; at even numbers wherever it may be by now
            node.until(lambda: [name for name in node.devices() if name.startswith("lxc")])
        plugin.send_signal(signal.SIGKILL)
        plugin.wait()
        assert plugin.stdout is not None
        plugin.stdout.close()

        def removed() -> bool:
            try:
                net.delete(each)
            except PluginError:
                return False  # the agent is still at it
            return True

        node.until(removed, 15.0)
        node.until(lambda: traces(node) == before, 15.0)
    net.add(each)
    net.check(each)


def test_an_agent_that_is_killed_in_the_middle_is_followed_by_one_that_cleans_up(node: AgentNode) -> None:
    (each,) = make(node, 1)
    net = Network(node, [OURS], version="1.1.0")
    hits = 0
    while hits < scaled(1):
        with ThreadPoolExecutor(1) as thread:
            failing = thread.submit(net.add, each)
            node.until(lambda: [name for name in node.devices() if name.startswith("lxc")])
            node.stop(signal.SIGKILL)
            refused = failing.exception()
        net.delete(each)  # queued
        if refused is not None:  # else the ADD was done already: once more
            assert isinstance(refused, PluginError)
            assert refused.code == 11
            hits += 1
        node.start()
        node.until(lambda: [name for name in node.devices() if name.startswith("lxc")] == [])
        node.until(lambda: node.get("/v1/endpoints")["items"] == [])
        node.until(lambda: list((node.bpffs / "links").glob("pod-*")) == [])
        assert list((node.state / "endpoints").glob("*")) == []
    net.add(each)
    net.check(each)
