# SPDX-License-Identifier: Apache-2.0
"""Fragments and ICMP errors on real wires, and pods that talk to themselves."""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.bpf import packets

from .agent_node import NODE4, NODE6, WORLD4, WORLD6, policy
from .wired import Cluster, Way, bound, clusters, counter, forwarding, inside, ping, udp_there_and_back

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
BEYOND = ("192.0.2.99", "2001:db8::99")  # behind the world
IP_RECVERR, IPV6_RECVERR, IP_MTU, IPV6_MTU, IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 11, 25, 14, 24, 10, 23
RTAX_MTU = 2
ICMP_TIME_EXCEEDED, ICMP6_TIME_EXCEEDED = 11, 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from clusters(tmp_path_factory.mktemp("pieces"))


@pytest.fixture
def closed(cluster: Cluster) -> Iterator[None]:
    """Nobody may talk to `a`: what it gets is answers, and what belongs to them."""
    cluster.first.apply("closed", policy("a-closed", "a", peer=None))
    cluster.first.until(lambda: cluster.first.policy_in_force("a"))
    try:
        yield
    finally:
        cluster.first.delete("closed")
        cluster.first.until(lambda: not cluster.first.policy_in_force("a"))


def test_large_datagrams_arrive_by_every_way(cluster: Cluster) -> None:
    for way in cluster.ways():
        assert udp_there_and_back(way, 20_000), way.name


def test_large_echoes_are_answered_by_every_way(cluster: Cluster) -> None:
    for way in cluster.ways():
        assert ping(way.source, way.address, "-s", "5000"), way.name


def test_large_datagrams_are_denied_like_small_ones(cluster: Cluster, closed: None) -> None:
    into = [way for way in cluster.ways() if way.target is cluster.a and way.source is not cluster.first.place]
    out = [way for way in cluster.ways() if way.source is cluster.a]
    assert len(into) == 4
    for way in into:
        before = counter(cluster.a, "Ip.ReasmReqds"), counter(cluster.a, "Ip6ReasmReqds")
        assert not udp_there_and_back(way, 20_000, timeout_s=0.3), way.name
        assert (counter(cluster.a, "Ip.ReasmReqds"), counter(cluster.a, "Ip6ReasmReqds")) == before, way.name
    for way in out:
        assert udp_there_and_back(way, 20_000), way.name


def test_16_a_closed_port_says_so_by_every_way(cluster: Cluster, closed: None) -> None:
    for way in cluster.ways():
        if way.source is not cluster.a:
            continue
        with way.source.socket(way.family, socket.SOCK_DGRAM) as client:
            client.connect((way.address, 9))
            client.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                client.recv(10)


def _error(client: socket.socket) -> tuple[int, int, int]:
    """(errno, ICMP type, MTU) of the error that the socket was told."""
    client.settimeout(5.0)
    with pytest.raises(OSError, match=r"\[Errno"):
        client.recv(1)
    _, ancillary, _, _ = client.recvmsg(512, 512, socket.MSG_ERRQUEUE)
    number, _, kind, _, _, info, _ = struct.unpack_from("=IBBBBII", ancillary[0][2])
    return number, kind, info


def _tell_errors(client: socket.socket, *, hops: int = 0) -> None:
    if client.family == socket.AF_INET6:
        client.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        client.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, 2)
        if hops:
            client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
    else:
        client.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, 2)
        if hops:
            client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)


@pytest.fixture
def router(cluster: Cluster) -> None:
    """The world forwards what is for BEYOND, in packets of 1,300 bytes at most."""
    from pyroute2 import IPRoute

    def towards(via: tuple[str, str], **more: object) -> None:
        with IPRoute() as ip:
            for family, gateway, network in zip((2, 10), via, ("192.0.2.0/24", "2001:db8::/32"), strict=True):
                ip.route("replace", dst=network, gateway=gateway, family=family, **more)

    forwarding(cluster.world)
    inside(cluster.first.place, towards, (WORLD4, WORLD6))
    narrow = {"mtu": 1300, "lock": 1 << RTAX_MTU}
    inside(cluster.world, lambda: towards(("172.30.7.2", "fd00:30:7::2"), metrics=narrow))


def test_16_a_router_on_the_way_is_heard(cluster: Cluster, closed: None, router: None) -> None:
    for address in BEYOND:
        way = Way("beyond", cluster.a, cluster.world, address)
        with way.source.socket(way.family, socket.SOCK_DGRAM) as client:
            _tell_errors(client, hops=2)
            client.connect((address, 33434))
            client.send(b"how far?")
            number, kind, _ = _error(client)
            assert (number, kind) == (
                errno.EHOSTUNREACH,
                ICMP6_TIME_EXCEEDED if ":" in address else ICMP_TIME_EXCEEDED,
            )
        with way.source.socket(way.family, socket.SOCK_DGRAM) as client:
            _tell_errors(client)
            client.connect((address, 33434))
            client.send(bytes(1350))
            number, _, mtu = _error(client)
            assert (number, mtu) == (errno.EMSGSIZE, 1300)


def test_time_is_exceeded_here_and_the_pod_hears_of_it(cluster: Cluster, closed: None) -> None:
    for way in cluster.ways():
        if way.source is not cluster.a or way.target is cluster.first.place:
            continue
        with way.source.socket(way.family, socket.SOCK_DGRAM) as client:
            _tell_errors(client, hops=1)
            client.connect((way.address, 33434))
            client.send(b"how far?")
            assert _error(client)[0] == errno.EHOSTUNREACH, way.name


def test_16_a_forged_error_moves_no_path_mtu(cluster: Cluster) -> None:
    """No policy here: pods and the world tell `a` that its way to `near` had become narrow."""
    for at, version in ((0, 4), (1, 6)):
        way = Way("pod-pod", cluster.a, cluster.near, cluster.near.addresses[at])
        own = cluster.a.addresses[at]
        server, port = bound(way.target, way.family, socket.SOCK_DGRAM)
        with server, way.source.socket(way.family, socket.SOCK_DGRAM) as client:
            client.connect((way.address, port))
            client.send(bytes(1000))
            server.recv(2000)
            sent = packets.udp(own, way.address, client.getsockname()[1], port, bytes(1000))
            kind, length = ((3, 4), 200) if version == 4 else ((2, 0), 200)
            level, name = (socket.IPPROTO_IPV6, IPV6_MTU) if version == 6 else (socket.IPPROTO_IP, IP_MTU)
            for liar, source in (
                (cluster.world, (WORLD4, WORLD6)[at]),
                (cluster.far, cluster.far.addresses[at]),
                (cluster.first.place, (NODE4, NODE6)[at]),
                (cluster.second.place, ("172.30.7.2", "fd00:30:7::2")[at]),
            ):
                message = packets.icmp(source, own, *kind, struct.pack("!I", 1280), sent[:length])
                body = message[packets.IP_HEADER[version] :]
                # A sender on this node is told that its packet was dropped.
                with liar.socket(way.family, socket.SOCK_RAW, 58 if version == 6 else 1) as raw, suppress(OSError):
                    raw.sendto(body, (own, 0))
            assert ping(cluster.far, own)  # what came before it has been looked at
            assert client.getsockopt(level, name) == 1450
            message = packets.icmp(way.address, own, *kind, struct.pack("!I", 1280), sent[:length])
            with way.target.socket(way.family, socket.SOCK_RAW, 58 if version == 6 else 1) as raw:
                raw.sendto(message[packets.IP_HEADER[version] :], (own, 0))
            cluster.first.until(lambda c=client, w=(level, name): c.getsockopt(*w) == 1280)  # who has the packet may


def test_a_pod_reaches_itself_by_its_own_address(cluster: Cluster, closed: None) -> None:
    for address in cluster.a.addresses:
        way = Way("itself", cluster.a, cluster.a, address)
        assert udp_there_and_back(way, 100)
        assert udp_there_and_back(way, 20_000)
        assert ping(cluster.a, address)
        server, port = bound(cluster.a, way.family, socket.SOCK_STREAM)
        with server:
            server.listen(1)
            assert cluster.a.can_connect(address, port)


def test_13_who_is_no_node_has_no_tunnel(cluster: Cluster) -> None:
    """The world sends tunnel packets with a pod's address, identity and all; from the pod's own node they arrive."""
    identity = cluster.second.get("/v1/endpoints")["items"][0]["identity"]
    for at, version in ((0, 4), (1, 6)):
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        server, port = bound(cluster.a, family, socket.SOCK_DGRAM)
        with server:
            for sender, outer in ((cluster.world, NODE4), (cluster.world, NODE6), (cluster.second.place, NODE4)):
                said = f"{outer} {sender is cluster.world}".encode()
                inner = packets.udp(cluster.far.addresses[at], cluster.a.addresses[at], 4000, port, said)
                kind = packets.ETH_IPV6 if version == 6 else packets.ETH_IPV4
                frame = packets.eth("02:00:00:00:00:01", "02:00:00:00:00:02", kind, inner)
                vxlan = struct.pack("!II", 0x08000000, identity << 8) + frame
                over = socket.AF_INET6 if ":" in outer else socket.AF_INET
                with sender.socket(over, socket.SOCK_DGRAM) as tunnel:
                    tunnel.sendto(vxlan, (outer, 8472))
            assert server.recv(100) == f"{NODE4} False".encode()
            server.settimeout(0.2)
            with pytest.raises(TimeoutError):
                server.recv(100)
