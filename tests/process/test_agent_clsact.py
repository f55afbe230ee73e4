# SPDX-License-Identifier: Apache-2.0
"""The agent where there is no tcx: its programs are filters on clsact."""

from __future__ import annotations

import json
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from ciliumpy.net import filters, links, netns

from .agent_node import drops, passes, policy
from .probe import Probe
from .test_agent_nodes import reach

if TYPE_CHECKING:
    from .agent_node import AgentNode

pytestmark = pytest.mark.root

CLSACT, TCX = {"attach": "clsact"}, {"attach": "tcx"}


@pytest.fixture
def node(make_node) -> AgentNode:
    made = make_node(network=CLSACT)
    made.start()
    return made


def on_devices(node: AgentNode) -> dict[str, list[str]]:
    """Return the names of the filters by device and direction, in order."""

    def look() -> dict[str, list[str]]:
        names = {link.ifindex: link.name for link in links.links()}
        return {
            f"{names[ifindex]} {direction}": [one.name for one in found]
            for direction in ("ingress", "egress")
            for ifindex, found in filters.everywhere(direction).items()
            if found
        }

    return netns.run_in(node.place.fd, look)


def configure(node: AgentNode, **network: str) -> None:
    config = json.loads(node.config.read_text())
    config["network"] = network
    node.config.write_text(json.dumps(config))


def test_policy_holds_and_a_killed_agent_loses_no_packet(node: AgentNode) -> None:
    a, b, c = node.add("a"), node.add("b"), node.add("c")
    node.apply("policy", policy("b-from-a", "b", peer="a"))
    node.until(lambda: node.policy_in_force("b"))
    assert node.get("/v1/status")["datapath"]["attach"] == "clsact"
    before = on_devices(node)
    assert sorted(before) == [
        "cilium_host egress",
        "cilium_vxlan ingress",
        "eth0 ingress",
        *sorted(f"{pod.result['interfaces'][0]['name']} ingress" for pod in (a, b, c)),
    ]
    assert before["eth0 ingress"] == ["ciliumpy-netdev"]
    assert all(names == ["ciliumpy-pod", "ciliumpy-closed"] for at, names in before.items() if at.startswith("lxc"))
    assert list((node.bpffs / "links").glob("*")) == []

    probes = [Probe(a, c, address) for address in c.addresses]
    with b.listen(8080), a.connect(b.addresses[0], 8080) as alive:
        for address in b.addresses:
            assert a.can_connect(address, 8080)
            assert not c.can_connect(address, 8080, 0.3)
            assert not node.world.can_connect(address, 8080, 0.3)
            assert node.place.can_connect(address, 8080)
        for number in (signal.SIGKILL, signal.SIGTERM):
            node.stop(number)
            assert passes(alive)
            assert not c.can_connect(b.addresses[0], 8080, 0.2)
            node.start()
            assert passes(alive)
            assert a.can_connect(b.addresses[1], 8080)
            assert not c.can_connect(b.addresses[1], 8080, 0.2)
    assert [probe.stop() for probe in probes] == [0, 0]
    assert on_devices(node) == before, "the same filters, and none twice"
    assert drops(node, 133) > 0
    assert "Traceback" not in node.log()


def test_14_nothing_opens_when_pins_or_filters_are_gone(node: AgentNode) -> None:
    a, b, c = node.add("a"), node.add("b"), node.add("c")
    node.apply("policy", policy("b-from-a", "b", peer="a"))
    node.until(lambda: node.policy_in_force("b"))
    node.stop(signal.SIGKILL)
    with b.listen(8080):
        shutil.rmtree(node.bpffs)
        for address in b.addresses:
            assert a.can_connect(address, 8080), "filters hold their programs, and these their maps"
            assert not c.can_connect(address, 8080, 0.3)

        device = c.result["interfaces"][0]["name"]

        def uncover() -> bool:
            return filters.remove(links.need(device).ifindex, "ingress", "ciliumpy-pod")

        assert netns.run_in(node.place.fd, uncover)
        for address in (*b.addresses, "172.30.7.1", "fd00:30:7::1"):
            assert not c.ping(address, timeout_s=0.2), address
        node.start()
        assert c.ping("172.30.7.1"), "the next agent puts it back"
        assert not c.can_connect(b.addresses[0], 8080, 0.3)


def test_a_pod_that_goes_leaves_no_filter_and_no_link(node: AgentNode) -> None:
    a, b = node.add("a"), node.add("b")
    device = a.result["interfaces"][0]["name"]
    assert f"{device} ingress" in on_devices(node)
    assert node.cni("DEL", a) == {"result": {}}
    assert device not in node.devices()
    assert not any(at.startswith(device) for at in on_devices(node))
    node.stop(signal.SIGKILL)
    for path in (node.state / "endpoints").iterdir():
        path.unlink()
    node.start()
    assert [names for at, names in on_devices(node).items() if at.startswith("lxc")] == [["ciliumpy-closed"]]
    assert not b.ping("172.30.7.1", timeout_s=0.2)


def test_the_kind_of_attachment_changes_under_traffic(make_node) -> None:
    node = make_node(network=TCX)
    node.start()
    a, b = node.add("a"), node.add("b")
    node.apply("policy", policy("b-from-nobody", "b", peer="nobody"))
    node.until(lambda: node.policy_in_force("b"))
    closed_only = on_devices(node)
    assert {name for names in closed_only.values() for name in names} == {"ciliumpy-closed"}
    probes = [Probe(b, a, address) for address in a.addresses]
    for network, attach, pins in ((CLSACT, "clsact", 0), ({}, "tcx", 5)):
        node.stop(signal.SIGKILL)
        configure(node, **network)
        node.start()
        assert node.get("/v1/status")["datapath"]["attach"] == attach
        assert len(list((node.bpffs / "links").iterdir())) == pins
        assert len([name for names in on_devices(node).values() for name in names]) == (2 if pins else 7)
        assert not a.can_connect(b.addresses[1], 8080, 0.2)
    assert on_devices(node) == closed_only
    assert [probe.stop() for probe in probes] == [0, 0]


def test_pods_of_two_nodes_and_policy_between_them(make_node) -> None:
    first = make_node(network=CLSACT)
    second = make_node(beside=first, network=CLSACT)
    first.start()
    second.start()
    a, c, b = first.add("a"), first.add("c"), second.add("b")
    with b.listen(8080):
        reach(a, b.addresses)
        reach(c, b.addresses)
        second.apply("policy", policy("b-from-a", "b", peer="a"))
        second.until(lambda: second.policy_in_force("b"))
        reach(a, b.addresses)
        for address in b.addresses:
            assert not c.can_connect(address, 8080, 0.3)
    assert drops(second, 133) > 0
