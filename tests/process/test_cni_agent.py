# SPDX-License-Identifier: Apache-2.0
"""CHECK, GC and STATUS, by the plugin's process against a real agent: what they find, remove and say."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest

from ciliumpy.bpf.links import Link
from ciliumpy.net import addresses, links, netns, routes

from .agent_node import AgentNode, Pod
from .cni_runtime import Network, PluginError
from .test_cni_chain import OURS, pod

pytestmark = pytest.mark.root


def in_pod(break_it: Callable[[], object]) -> Callable[[AgentNode, Pod], object]:
    return lambda _node, a: netns.run_in(a.fd, break_it)


def on_node(break_it: Callable[[str], object]) -> Callable[[AgentNode, Pod], object]:
    return lambda node, a: netns.run_in(node.place.fd, break_it, a.result["interfaces"][0]["name"])


def eth0() -> int:
    return links.need("eth0").ifindex


def detach(node: AgentNode, a: Pod) -> None:
    with Link.open_pinned(node.bpffs / "links" / f"pod-{a.result['interfaces'][0]['name']}") as link:
        link.detach()


def forget_address(node: AgentNode, a: Pod) -> None:
    with node.map("cp_local_v1") as map_:
        for key in map_.items()[0]:
            map_.delete(key.tobytes())


def drop_filter(node: AgentNode, a: Pod) -> None:
    from pyroute2 import IPRoute

    def remove() -> None:
        with IPRoute() as route:
            route.tc("del", "clsact", links.need(a.result["interfaces"][0]["name"]).ifindex)

    netns.run_in(node.place.fd, remove)


BROKEN = {
    "has not the address fd00": in_pod(lambda: addresses.set_addresses(eth0(), [addresses.addresses(eth0())[0]])),
    "has no route to 0.0.0.0/0": in_pod(lambda: routes.delete_route("0.0.0.0/0", eth0())),
    "has no route to ::/0": in_pod(lambda: routes.delete_route("::/0", eth0())),
    "the pod's eth0 is down": in_pod(lambda: links.set_up("eth0", up=False)),
    "has the MTU 1300": in_pod(lambda: links.set_mtu("eth0", 1300)),
    "has the MAC address": in_pod(lambda: links.set_mac("eth0", "02:00:00:00:00:01")),
    "is down": on_node(lambda name: links.set_up(name, up=False)),
    "is gone or another device": on_node(links.delete),
    "program pod is not on": detach,
    "cp_local_v1 has another row": forget_address,
    "has lost the filter": drop_filter,
}


@pytest.fixture
def net(node: AgentNode) -> Network:
    return Network(node, [OURS], version="1.1.0")


def test_check_finds_what_is_broken(node: AgentNode, net: Network) -> None:
    pods = {what: pod(node, f"p{number}") for number, what in enumerate(BROKEN)}
    for what, each in pods.items():
        net.add(each)
        net.check(each)
        for _ in range(10):  # programs that are gone are put back every few seconds: it may have been just then
            BROKEN[what](node, each)
            try:
                net.check(each)
            except PluginError as error:
                found = error
                break
        assert what in str(found)
        assert found.code == 101
    for each in pods.values():
        net.delete(each)
    assert node.get("/v1/endpoints")["items"] == []


def test_check_compares_with_the_result_and_knows_who_is_there(node: AgentNode, net: Network) -> None:
    a = pod(node, "a")
    net.add(a)
    result = a.result
    net._results[a.container, "eth0"] = result | {"ips": [{"address": "10.244.0.99/32", "interface": 1}]}
    with pytest.raises(PluginError, match=r"not the address 10\.244\.0\.99/32") as found:
        net.check(a)
    assert "prevResult has not the address" in found.value.details
    node.cni("DEL", a)
    net._results[a.container, "eth0"] = result
    with pytest.raises(PluginError, match="has no endpoint") as found:
        net.check(a)
    assert found.value.code == 3


def test_gc_removes_what_is_not_named_of_this_network_alone(node: AgentNode, net: Network) -> None:
    other = Network(node, [OURS], version="1.1.0", name="other")
    kept, lost, foreign = pod(node, "kept"), pod(node, "lost"), pod(node, "foreign")
    net.add(kept)
    net.add(lost)
    other.add(foreign)
    node.stop(signal.SIGKILL)  # whose network it is, is kept over a restart
    node.start()
    net.collect([(kept.container, "eth0"), ("unknown", "eth0")])
    assert {row["pod"] for row in node.get("/v1/endpoints")["items"]} == {"kept", "foreign"}
    assert len([name for name in node.devices() if name.startswith("lxc")]) == 2
    assert all(foreign.ping(address) for address in kept.addresses)
    net.collect([(kept.container, "eth1")])
    assert {row["pod"] for row in node.get("/v1/endpoints")["items"]} == {"foreign"}
    other.collect([])
    assert node.get("/v1/endpoints")["items"] == []


def test_status_says_whether_a_pod_could_come(node: AgentNode, net: Network) -> None:
    net.status()
    marker = node.store / "cluster.yaml"
    marker.rename(node.folder / "cluster.yaml")
    node.until(lambda: node.get("/v1/status")["store"]["state"] == "error")
    with pytest.raises(PluginError, match="store") as said:
        net.status()
    assert said.value.code == 51
    (node.folder / "cluster.yaml").rename(marker)
    node.until(lambda: node.get("/v1/status")["store"]["state"] != "error")
    net.status()
    node.stop()
    with pytest.raises(PluginError) as said:
        net.status()
    assert said.value.code == 50


def test_no_address_is_left(make_node: Callable[..., AgentNode]) -> None:
    node = make_node(ipam={"clusterPodCIDRs": ["10.244.0.0/28"], "nodeMaskSizes": [30, 64]}, network={"ipv6": False})
    node.start()
    net = Network(node, [OURS], version="1.1.0")
    a, b = pod(node, "a"), pod(node, "b")
    net.add(a)
    with pytest.raises(PluginError, match="no address is left") as said:
        net.status()
    assert said.value.code == 50
    with pytest.raises(PluginError, match="no address is left") as said:
        net.add(b)
    assert (said.value.code, "delete pods" in said.value.details) == (11, True)
    assert [row["pod"] for row in node.get("/v1/endpoints")["items"]] == ["a"]
    assert len([name for name in node.devices() if name.startswith("lxc")]) == 1
    assert len(list((node.state / "endpoints").iterdir())) == 1
    assert json.loads(json.dumps(node.get("/v1/status")["ipam"]["ipv4"]))["allocated"] == 1
    net.delete(a)
    net.status()
    net.add(b)
    net.check(b)
