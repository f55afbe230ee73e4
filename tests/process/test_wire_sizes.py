# SPDX-License-Identifier: Apache-2.0
"""Path MTU, segmentation and checksum offload on real wires: whole, right, and never in pieces."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ciliumpy.net import addresses, links
from tests.bpf import packets

from .wired import (
    Cluster,
    Way,
    bound,
    clusters,
    counter,
    forwarding,
    inside,
    set_offload,
    stream,
    udp_there_and_back,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .agent_node import Place

pytestmark = pytest.mark.root
MIB = 1 << 20
ALL = ("tx", "tso", "gso", "sg")
POD_MTU, NARROW, TUNNEL = 1450, 1400, 50
IP_MTU, IPV6_MTU, IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 14, 24, 10, 23
SO_RCVBUFFORCE = 33
VXLAN_HEADERS = 14 + 20 + 8 + 8


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from clusters(tmp_path_factory.mktemp("sizes"))


def pieces(cluster: Cluster) -> list[int]:
    """How many fragments every kernel of the cluster has made."""
    return [counter(place, name) for place in cluster.places() for name in ("Ip.FragCreates", "Ip6FragCreates")]


def wrong_sums(cluster: Cluster) -> int:
    names = ("Tcp.InCsumErrors", "Udp.InCsumErrors", "Udp6InCsumErrors", "Icmp.InCsumErrors", "Icmp6InCsumErrors")
    return sum(counter(place, name) for place in cluster.places() for name in names)


def ends(cluster: Cluster) -> list[tuple[Place, str]]:
    """Every device that pods' packets pass, with where it is."""
    first, second = cluster.first, cluster.second
    found = [(place, "eth0") for place in (cluster.a, cluster.near, cluster.far, first.place, second.place)]
    for node in (first, second):
        found += [(node.place, name) for name in node.devices() if name.startswith(("lxc", "cilium_"))]
    return found


@contextmanager
def offloads(places: list[tuple[Place, str]], *, on: bool, features: tuple[str, ...] = ALL) -> Iterator[None]:
    try:
        for place, device in places:
            set_offload(place, device, on=on, features=features)
        yield
    finally:
        for place, device in places:
            set_offload(place, device, on=not on, features=tuple(reversed(features)))


@pytest.mark.parametrize("setting", ["as it comes", "pods without", "wires without", "tunnel without", "none", "gro"])
def test_18_streams_arrive_whole_by_every_way(cluster: Cluster, setting: str) -> None:
    everything = ends(cluster)
    chosen = {
        "as it comes": [],
        "pods without": [end for end in everything if end[0] in (cluster.a, cluster.near, cluster.far)],
        "wires without": [end for end in everything if end[0] is not cluster.a and end[1] == "eth0"],
        "tunnel without": [end for end in everything if end[1] == "cilium_vxlan"],
        "none": everything,
        "gro": [end for end in everything if end[1] == "eth0"],
    }[setting]
    before = pieces(cluster)
    with offloads(chosen, on=setting == "gro", features=("gro",) if setting == "gro" else ALL):
        for way in cluster.ways():
            stream(way, MIB)
            assert udp_there_and_back(way, 1300), way.name
    assert pieces(cluster) == before
    assert wrong_sums(cluster) == 0


@pytest.mark.parametrize("port", ["tunnel", "world"])
def test_18_without_offload_what_is_on_the_wire_is_right(cluster: Cluster, port: str) -> None:
    """A device that cannot sum: the kernel does it, and needs to be told where, behind every header that was put on."""
    ways = [way for way in cluster.ways() if way.name == ("pod-far" if port == "tunnel" else "pod-world")]
    seen, small = 0, 0
    with (
        offloads([(cluster.first.place, "eth0")], on=False),
        cluster.world.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as tap,
    ):
        tap.bind(("port1", 3))
        tap.settimeout(1.0)
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 * MIB)
        stop = threading.Event()
        frames: list[bytes] = []

        def listen() -> None:
            while not stop.is_set():
                try:
                    frames.append(tap.recv(1 << 16))
                except TimeoutError:
                    continue

        worker = threading.Thread(target=listen)
        worker.start()
        try:
            for way in ways:
                stream(way, MIB // 4)
                assert udp_there_and_back(way, 1200)
        finally:
            stop.set()
            worker.join(5.0)
    own = set(cluster.a.addresses)
    for frame in frames:
        inner = frame[VXLAN_HEADERS:] if port == "tunnel" else frame
        if int.from_bytes(inner[12:14], "big") not in {packets.ETH_IPV4, packets.ETH_IPV6}:
            continue
        read = packets.Read(inner)
        if read.src not in own:
            continue
        seen += 1
        small += len(frame) < 200
        assert len(frame) <= 1514
        assert read.sums_right, frame.hex()
    assert seen > 200
    assert small > 2


def dont_fragment(way: Way, client: socket.socket, how: int) -> None:
    if way.family == socket.AF_INET6:
        client.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, how)
    else:
        client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, how)


def mtu_of(way: Way, client: socket.socket) -> int:
    if way.family == socket.AF_INET6:
        return client.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
    return client.getsockopt(socket.IPPROTO_IP, IP_MTU)


@pytest.fixture
def narrow(cluster: Cluster) -> Iterator[None]:
    """From the first node to the second by a router that takes 1,400 bytes; both links take 1,500."""
    from pyroute2 import IPRoute

    def detour(verb: str) -> None:
        with IPRoute() as ip:
            for family, to, via in (
                (2, "172.30.7.2/32", "172.30.7.254"),
                (10, "fd00:30:7::2/128", "fd00:30:7::fe"),
            ):
                ip.route(verb, dst=to, gateway=via, family=family)

    forwarding(cluster.world)
    inside(cluster.world, lambda: links.set_mtu(links.need("wire").ifindex, NARROW))
    inside(cluster.first.place, detour, "add")
    try:
        yield
    finally:
        inside(cluster.first.place, detour, "del")
        inside(cluster.world, lambda: links.set_mtu(links.need("wire").ifindex, 1500))


def test_18_a_narrow_way_is_learned_and_nothing_is_cut(cluster: Cluster, narrow: None) -> None:
    before = pieces(cluster)
    ways = [way for way in cluster.ways() if way.name in {"pod-far", "host-far"}]
    for way in ways:
        stream(way, MIB)
        server, port = bound(way.target, way.family, socket.SOCK_DGRAM)
        with server, way.source.socket(way.family, socket.SOCK_DGRAM) as client:
            dont_fragment(way, client, 2)
            client.connect((way.address, port))
            assert mtu_of(way, client) == NARROW - TUNNEL, way.name
            head = 48 if way.family == socket.AF_INET6 else 28
            client.send(bytes(NARROW - TUNNEL - head))
            assert len(server.recv(2000)) == NARROW - TUNNEL - head
            with pytest.raises(OSError, match="too long"):
                client.send(bytes(NARROW - TUNNEL - head + 1))
    assert pieces(cluster) == before
    assert [way.name for way in cluster.ways() if way.name == "pod-pod" and not udp_there_and_back(way, 1400)] == []


def test_18_without_df_the_sender_cuts_and_nobody_else(cluster: Cluster, narrow: None) -> None:
    """Its packets are answered as well; a sender that does not mind then cuts them itself."""
    way = next(way for way in cluster.ways() if way.name == "pod-far")
    middle = [cluster.first.place, cluster.second.place, cluster.world]
    before = [counter(place, "Ip.FragCreates") for place in middle]
    server, port = bound(way.target, way.family, socket.SOCK_DGRAM)
    with server, way.source.socket(way.family, socket.SOCK_DGRAM) as client:
        dont_fragment(way, client, 0)
        client.connect((way.address, port))
        server.settimeout(0.2)
        data = os.urandom(POD_MTU - 28)
        for _ in range(20):
            client.send(data)
            try:
                assert server.recv(2000) == data
                break
            except TimeoutError:
                continue
        else:
            raise AssertionError("it never arrived")
    assert [counter(place, "Ip.FragCreates") for place in middle] == before


def test_the_nodes_addresses_are_followed(cluster: Cluster) -> None:
    """One more on its device, and it is the host here, a node elsewhere; gone, and it is neither."""
    more = ("172.30.7.11", "fd00:30:7::11")

    def has(*wanted: str) -> None:
        device = links.need("eth0").ifindex
        addresses.set_addresses(device, ["172.30.7.1/24", "fd00:30:7::1/64", *wanted])

    def known(node: object, address: str) -> str:
        length = 128 if ":" in address else 32
        rows = [r for r in node.get("/v1/ipcache")["items"] if r["prefix"] == f"{address}/{length}"]
        return rows[0]["identity"] if rows else 0

    inside(cluster.first.place, has, f"{more[0]}/24", f"{more[1]}/64")
    for address in more:
        cluster.first.until(lambda a=address: known(cluster.first, a) == 1)
        cluster.second.until(lambda a=address: known(cluster.second, a) == 6)
        for pod in (cluster.a, cluster.far):
            cluster.first.until(lambda a=address, p=pod: p.ping(a, timeout_s=0.5))
    assert cluster.far.ping(cluster.a.addresses[0])
    row = next(r for r in cluster.second.get("/v1/nodes")["items"] if r["name"] == "n1")
    assert [a for a in row["internalIPs"] if ":" not in a] == ["172.30.7.1", more[0]]
    inside(cluster.first.place, has)
    for address in more:
        cluster.first.until(lambda a=address: known(cluster.first, a) == 0)
        cluster.second.until(lambda a=address: known(cluster.second, a) == 0)
