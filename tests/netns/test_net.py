# SPDX-License-Identifier: Apache-2.0
"""The net door against real namespaces: made anonymous, so that nothing can be left behind."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.net import addresses, links, neighbours, netns, pods, routes, sysctl, watch

pytestmark = pytest.mark.root


def _own_inode() -> int:
    return Path("/proc/thread-self/ns/net").stat().st_ino


@pytest.fixture
def ns():
    fd = netns.new_namespace()
    yield fd
    os.close(fd)


@pytest.fixture
def other():
    fd = netns.new_namespace()
    yield fd
    os.close(fd)


def test_a_namespace_is_entered_only_for_the_call(ns):
    before = _own_inode()
    inside = netns.run_in(ns, _own_inode)
    assert inside == os.fstat(ns).st_ino != before
    assert _own_inode() == before
    assert [link.name for link in netns.run_in(ns, links.links)] == ["lo"]
    assert not [t for t in threading.enumerate() if t.name.startswith("netns-")]


def test_exceptions_come_through_a_namespace(ns):
    with pytest.raises(CiliumpyError, match="no network device nope"):
        netns.run_in(ns, links.need, "nope")


def test_a_file_that_is_no_namespace_is_refused(tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(CiliumpyError, match="cannot enter a network namespace"):
        netns.run_in(file.fileno(), links.links)
    with pytest.raises(CiliumpyError, match="cannot open the network namespace"):
        netns.open_path(tmp_path / "missing")


def test_a_bound_namespace_is_kept_and_removed(tmp_path):
    path = tmp_path / "deep" / "n1"
    fd = netns.new_namespace(path)
    try:
        assert netns.is_namespace(path)
        with pytest.raises(CiliumpyError, match="mounted on"):
            netns.new_namespace(path)
        again = netns.open_path(path)
        assert os.fstat(again).st_ino == os.fstat(fd).st_ino
        assert netns.cookie(again) == netns.cookie(fd) != netns.cookie()
        os.close(again)
    finally:
        os.close(fd)
        netns.remove_namespace(path)
    assert not path.exists()
    netns.remove_namespace(path)


def test_a_veth_pair_across_namespaces(ns, other):
    ifindex, peer = netns.run_in(
        ns,
        lambda: links.create_veth(
            "lxc0", other, "eth0", mtu=1450, host_mac="02:00:00:00:00:01", peer_mac="02:00:00:00:00:02"
        ),
    )
    host = netns.run_in(ns, links.link, "lxc0")
    inside = netns.run_in(other, links.link, "eth0")
    assert host is not None
    assert inside is not None
    assert (host.ifindex, host.peer, host.mac, host.mtu, host.kind, host.up) == (
        ifindex,
        peer,
        "02:00:00:00:00:01",
        1450,
        "veth",
        False,
    )
    assert (inside.ifindex, inside.peer, inside.mac, inside.mtu) == (peer, ifindex, "02:00:00:00:00:02", 1450)
    with pytest.raises(CiliumpyError, match="cannot make the veth pair lxc0 - eth1: File exists"):
        netns.run_in(ns, lambda: links.create_veth("lxc0", other, "eth1", mtu=1450))
    with pytest.raises(CiliumpyError, match="cannot make the veth pair lxc1 - eth0: File exists"):
        netns.run_in(ns, lambda: links.create_veth("lxc1", other, "eth0", mtu=1450))
    assert netns.run_in(ns, links.link, "lxc1") is None
    assert netns.run_in(ns, links.delete, "lxc0")
    assert not netns.run_in(ns, links.delete, "lxc0")
    assert netns.run_in(other, links.link, "eth0") is None


def test_a_pod_reaches_its_gateway_over_both_families(ns, other):
    def host_side() -> None:
        ifindex, _ = links.create_veth("lxc0", other, "eth0", mtu=1450)
        sysctl.prepare_node()
        sysctl.prepare_pod_host_side("lxc0")
        assert sysctl.read("net.ipv4.conf.{}.forwarding", "lxc0") == "0"
        addresses.set_addresses(ifindex, ["10.0.0.1/32", "fd00::1/128"])
        links.set_up(ifindex)
        routes.replace_route("10.0.0.2/32", ifindex, src="10.0.0.1")
        routes.replace_route("fd00::2/128", ifindex)

    netns.run_in(ns, host_side)
    pods.configure_pod(other, "eth0", "10.0.0.2", "fd00::2", "10.0.0.1", "fd00::1", 1400)
    pods.configure_pod(other, "eth0", "10.0.0.2", "fd00::2", "10.0.0.1", "fd00::1", 1400)
    inside = netns.run_in(other, links.need, "eth0")
    assert (inside.mtu, inside.up) == (1400, True)
    assert netns.run_in(other, addresses.addresses, inside.ifindex) == ["10.0.0.2/32", "fd00::2/128"]
    destinations = {r.destination: r.via for r in netns.run_in(other, routes.routes, inside.ifindex)}
    assert destinations["0.0.0.0/0"] == "10.0.0.1"
    assert destinations["::/0"] == "fd00::1"
    assert not any(d.startswith("fe80") for d in destinations)
    for family, gateway in ((socket.AF_INET, "10.0.0.1"), (socket.AF_INET6, "fd00::1")):
        with netns.run_in(ns, socket.socket, family, socket.SOCK_STREAM) as server:
            server.bind((gateway, 8080))
            server.listen()
            with netns.run_in(other, socket.socket, family, socket.SOCK_STREAM) as client:
                client.settimeout(5)
                client.connect((gateway, 8080))


def test_addresses_are_made_exactly_those_wanted(ns):
    def check() -> None:
        first, second = links.ensure_veth_pair("cilium_host", "cilium_net", 1500, ["10.0.0.1/32", "fd00::1/128"])
        assert addresses.addresses(first) == ["10.0.0.1/32", "fd00::1/128"]
        assert links.ensure_veth_pair("cilium_host", "cilium_net", 1500, ["10.0.0.2/32"]) == (first, second)
        assert addresses.addresses(first) == ["10.0.0.2/32"]
        assert not addresses.set_addresses(first, ["10.0.0.2/32"])
        assert addresses.set_addresses(first, [])

    netns.run_in(ns, check)


def test_a_broken_pair_is_made_anew(ns):
    def check() -> None:
        links.create_veth("cilium_host", None, "stranger", mtu=1500)
        first, second = links.ensure_veth_pair("cilium_host", "cilium_net", 1400)
        assert links.need("cilium_host") == links.Link(
            first, "cilium_host", links.need(first).mac, 1400, up=True, kind="veth", peer=second
        )
        assert links.link("stranger") is None

    netns.run_in(ns, check)


def test_a_vxlan_device_is_reused_and_replaced_when_it_is_another(ns):
    def check() -> None:
        first = links.ensure_vxlan("cilium_vxlan", 8472, 1500)
        assert links.ensure_vxlan("cilium_vxlan", 8472, 1450) == first
        assert links.need("cilium_vxlan").mtu == 1450
        assert links.need("cilium_vxlan").up
        second = links.ensure_vxlan("cilium_vxlan", 4789, 1450)
        assert second != first
        assert links.ensure_vxlan("cilium_vxlan", 4789, 1450) == second

    netns.run_in(ns, check)


def test_routes_are_replaced_and_deleted(ns):
    def check() -> None:
        first, _ = links.ensure_veth_pair("a", "b", 1500, ["10.0.0.1/24", "fd00::1/64"])
        for destination, via in (("10.1.0.0/16", "10.0.0.2"), ("fd01::/48", "fd00::2")):
            routes.replace_route(destination, first, via=via, mtu=1300)
            routes.replace_route(destination, first, via=via)
            assert [r for r in routes.routes(first) if r.destination == destination] == [
                routes.Route(destination, first, via, "")
            ]
            assert routes.delete_route(destination)
            assert not routes.delete_route(destination)
        with pytest.raises(CiliumpyError, match=r"cannot set the route to 10.2.0.0/16 via 192.0.2.1"):
            routes.replace_route("10.2.0.0/16", first, via="192.0.2.1")
        routes.replace_route("10.2.0.0/16", first, via="192.0.2.1", onlink=True)

    netns.run_in(ns, check)


def test_neighbours_are_permanent(ns):
    def check() -> None:
        first, _ = links.ensure_veth_pair("a", "b", 1500, ["10.0.0.1/24", "fd00::1/64"])
        for address in ("10.0.0.2", "fd00::2"):
            neighbours.replace_neighbour(first, address, "02:00:00:00:00:01")
            neighbours.replace_neighbour(first, address, "02:00:00:00:00:02")
            assert neighbours.permanent_neighbours(first)[address] == "02:00:00:00:00:02"
            assert neighbours.delete_neighbour(first, address)
            assert not neighbours.delete_neighbour(first, address)

    netns.run_in(ns, check)


def test_settings_are_those_of_the_namespace(ns):
    def check() -> None:
        sysctl.write("net.ipv4.conf.{}.rp_filter", 2, "default")
        links.ensure_veth_pair("with.dot", "b", 1500)
        sysctl.prepare_node()
        assert sysctl.read("net.ipv4.ip_forward") == "1"
        assert sysctl.read("net.ipv6.conf.all.forwarding") == "1"
        assert sysctl.read("net.ipv4.conf.{}.rp_filter", "with.dot") == "0"
        assert not sysctl.write("net.ipv4.ip_forward", 1)
        with pytest.raises(CiliumpyError, match=r"cannot read the setting net.ipv4.conf.gone.rp_filter"):
            sysctl.prepare_device("gone")

    netns.run_in(ns, check)


def test_a_bridge_joins_two_namespaces(ns, other):
    def wire() -> None:
        bridge = links.ensure_bridge("wire", 1500)
        assert links.ensure_bridge("wire", 1500) == bridge
        links.create_veth("n1", other, "eth0", mtu=1500, up=True)
        links.set_master("n1", "wire")
        addresses.set_addresses(bridge, ["10.0.0.1/24"])

    netns.run_in(ns, wire)
    netns.run_in(other, lambda: addresses.set_addresses(links.need("eth0").ifindex, ["10.0.0.2/24"]))
    with netns.run_in(ns, socket.socket) as server, netns.run_in(other, socket.socket) as client:
        server.bind(("10.0.0.1", 1))
        server.listen()
        client.settimeout(5)
        client.connect(("10.0.0.1", 1))


def test_devices_of_a_name_are_watched_by_nobody(ns):
    """A pod that comes and goes is no change of the node: not its device, its address, its routes, nor their end."""

    def live() -> tuple[set[int], set[int]]:
        changes = watch.Watch(ignore="lxc")
        try:
            pod, peer = links.create_veth("lxc0", None, "peer", mtu=1400)
            links.set_up(pod)
            links.set_up(peer)
            addresses.set_addresses(pod, ["10.0.0.1/24"])
            routes.replace_route("10.1.0.0/16", pod, via="10.0.0.2")
            while_there = changes.read() - {peer}
            links.delete(pod)
            after = changes.read() - {peer}
            bridge = links.ensure_bridge("other", 1500)
            assert bridge in changes.read(), "but of others it hears"
            return while_there, after
        finally:
            changes.close()

    assert netns.run_in(ns, live) == (set(), set())


def test_addresses_of_all_devices_in_one_look(ns):
    def look() -> tuple[dict[int, list[str]], int]:
        bridge = links.ensure_bridge("b0", 1500)
        addresses.set_addresses(bridge, ["fd00::1/64", "10.0.0.1/24"])
        return addresses.everywhere(), bridge

    found, bridge = netns.run_in(ns, look)
    assert found[bridge] == ["10.0.0.1/24", "fd00::1/64"]
