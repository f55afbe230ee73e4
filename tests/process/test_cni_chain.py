# SPDX-License-Identifier: Apache-2.0
"""The plugin in a list with the reference plugins, before and behind them."""

from __future__ import annotations

from typing import Any

import pytest

from ciliumpy.net import links, netns, sysctl

from .agent_node import AgentNode, Pod, policy
from .cni_runtime import Network, PluginError, need

pytestmark = pytest.mark.root

OURS: dict[str, Any] = {"type": "ciliumpy-cni"}
NODE4 = "172.30.7.1"
MAPPING = [{"hostPort": 8888, "containerPort": 80, "protocol": "tcp"}]
V4, V6 = {"subnet": "10.99.0.0/24"}, {"subnet": "fd99::/64"}


def pod(node: AgentNode, name: str) -> Pod:
    """A pod's namespace, not plugged in, of which the store knows."""
    node.know(name)
    node.pods[name] = Pod(name, node.folder / f"ns-{name}")
    return node.pods[name]


def pair_maker(node: AgentNode, kind: str) -> dict[str, Any]:
    """A plugin that makes a veth pair, with addresses of the reference IPAM."""
    ipam = {
        "type": "host-local",
        "dataDir": str(node.folder / "ipam"),
        "ranges": [[V4], [V6]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    }
    return {"type": kind, "ipam": ipam} | ({"isGateway": True} if kind == "bridge" else {})


def nothing_is_left(node: AgentNode) -> None:
    node.until(lambda: node.get("/v1/endpoints")["items"] == [])
    assert [name for name in node.devices() if name.startswith(("lxc", "veth"))] == []
    assert [path.name for path in (node.bpffs / "links").glob("pod-*")] == []
    assert list((node.state / "endpoints").glob("*")) == []


def test_a_port_of_the_node_is_mapped(node: AgentNode) -> None:
    need("portmap")
    net = Network(node, [OURS, {"type": "portmap", "capabilities": {"portMappings": True}}], version="0.4.0")
    a = pod(node, "a")
    net.add(a, portMappings=MAPPING)
    with a.listen(80):
        assert node.place.can_connect(NODE4, 8888)
        net.delete(a, portMappings=MAPPING)
        assert not node.place.can_connect(NODE4, 8888, 0.3)
    nothing_is_left(node)


def test_what_tuning_sets_holds_and_check_takes_it_for_right(node: AgentNode) -> None:
    need("tuning")
    tuning = {"type": "tuning", "sysctl": {"net.core.somaxconn": "77"}, "mac": "c2:b0:57:49:47:f1", "mtu": 1400}
    net = Network(node, [OURS, tuning])
    a, b = pod(node, "a"), pod(node, "b")
    net.add(a)
    net.add(b)
    net.check(a)
    inside = netns.run_in(a.fd, links.need, "eth0")
    assert (inside.mac, inside.mtu) == ("c2:b0:57:49:47:f1", 1400)
    assert netns.run_in(a.fd, sysctl.read, "net.core.somaxconn") == "77"
    assert all(b.ping(address) for address in a.addresses)
    netns.run_in(a.fd, links.set_mac, "eth0", "c2:b0:57:49:47:f2")
    with pytest.raises(PluginError, match="MAC address"):
        net.check(a)
    net.delete(a)
    net.delete(b)
    nothing_is_left(node)


@pytest.mark.parametrize("kind", ["ptp", "bridge"])
@pytest.mark.parametrize("version", ["0.3.1", "1.0.0"])
def test_the_pair_of_another_plugin_is_taken_over(node: AgentNode, kind: str, version: str) -> None:
    need(kind, "host-local")
    net = Network(node, [pair_maker(node, kind), OURS], version=version)
    a, b, c = pod(node, "a"), pod(node, "b"), pod(node, "c")
    result = net.add(a)
    assert result["ips"][0]["address"] == "10.99.0.2/24", "the result is the other plugin's"
    net.add(b)
    node.add("own")
    net.add(c)
    rows = {row["pod"]: row for row in node.get("/v1/endpoints")["items"]}
    assert (rows["a"]["ipv4"], rows["a"]["state"]) == ("10.99.0.2", "ready")
    names = [i["name"] for i in result["interfaces"] if not i.get("sandbox")]
    assert rows["a"]["hostInterface"] in names
    for address in a.addresses:
        assert b.ping(address), "between pods of the other plugin"
        assert node.pods["own"].ping(address), "and from a pod of ours"
        assert node.place.ping(address), "and from the node"
    assert a.ping(node.pods["own"].addresses[0])
    if version != "0.3.1":
        net.check(a)
    node.apply("policy", policy("a-from-b", "a", peer="b"))
    node.until(lambda: node.policy_in_force("a"))
    with a.listen(8080):
        for address in a.addresses:
            assert b.can_connect(address, 8080)
            assert not c.can_connect(address, 8080, 0.2)
            assert node.place.can_connect(address, 8080), "the host reaches its pods"
    for each in (a, b, c):
        net.delete(each)
    node.cni("DEL", node.pods["own"])
    nothing_is_left(node)


def test_taken_over_pods_outlive_the_agent(node: AgentNode) -> None:
    need("ptp", "host-local")
    net = Network(node, [pair_maker(node, "ptp"), OURS])
    a, b = pod(node, "a"), pod(node, "b")
    net.add(a)
    net.add(b)
    node.stop(9)
    assert all(b.ping(address) for address in a.addresses)
    node.start()
    assert all(b.ping(address) for address in a.addresses)
    assert all(node.place.ping(address) for address in a.addresses)
    net.check(a)
    net.delete(a)
    net.delete(b)
    nothing_is_left(node)


def test_in_the_middle_of_a_list(node: AgentNode) -> None:
    need("ptp", "host-local", "portmap")
    plugins = [pair_maker(node, "ptp"), OURS, {"type": "portmap", "capabilities": {"portMappings": True}}]
    net = Network(node, plugins)
    a = pod(node, "a")
    net.add(a, portMappings=MAPPING)
    with a.listen(80):
        assert node.place.can_connect(NODE4, 8888)
    net.delete(a, portMappings=MAPPING)
    nothing_is_left(node)


def test_an_interface_that_cannot_be_guarded_is_refused(node: AgentNode) -> None:
    need("macvlan", "host-local")
    ipam = pair_maker(node, "ptp")["ipam"]
    net = Network(node, [{"type": "macvlan", "master": "eth0", "ipam": ipam}, OURS])
    a = pod(node, "a")
    with pytest.raises(PluginError) as refused:
        net.add(a)
    assert (refused.value.code, "ptp or bridge" in refused.value.details) == (7, True)
    net.delete(a)
    nothing_is_left(node)


def test_an_address_that_another_endpoint_has_is_refused(node: AgentNode) -> None:
    need("ptp", "host-local")
    maker = pair_maker(node, "ptp")
    a, b = pod(node, "a"), pod(node, "b")
    first = Network(node, [maker, OURS])
    first.add(a)
    again = maker | {"ipam": maker["ipam"] | {"dataDir": str(node.folder / "ipam2")}}
    second = Network(node, [again, OURS])
    with pytest.raises(PluginError, match="belongs to another endpoint"):
        second.add(b)
    second.delete(b)
    assert node.place.ping(a.addresses[0])
    first.delete(a)
    nothing_is_left(node)
