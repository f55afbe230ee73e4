# SPDX-License-Identifier: Apache-2.0
"""Two nodes with agents, pods on both, and the world, for tests of what arrives at the other end of a wire."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import socket
import struct
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.net import netns, sysctl

from .agent_node import NODE4, NODE6, WORLD4, WORLD6, AgentNode, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

SIOCETHTOOL = 0x8946
ETHTOOL_SET = {"rx": 0x15, "tx": 0x17, "sg": 0x19, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}
TIMEOUT_S = 5.0


class Way(NamedTuple):
    """From one place to an address of another."""

    name: str
    source: Place
    target: Place
    address: str

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET


class Cluster:
    """`a` and `near` are pods of the first node, `far` is one of the second. `close()`."""

    def __init__(self, folder: Path, settings: dict[str, dict[str, Any]] | None = None) -> None:
        made: list[AgentNode] = []
        try:
            for at in range(2):
                (folder / f"n{at}").mkdir()
                made.append(AgentNode(folder / f"n{at}", settings, made[0] if made else None))
                made[-1].start()
            self.first, self.second = made
            self.world = self.first.world
            self.a, self.near, self.far = self.first.add("a"), self.first.add("near"), self.second.add("far")
            for ip in self.far.addresses:
                self.first.until(lambda ip=ip: self.a.ping(ip, timeout_s=0.5), 20.0)
        except BaseException:
            for node in reversed(made):
                node.close()
            raise

    def close(self) -> None:
        self.second.close()
        self.first.close()

    def ways(self) -> list[Way]:
        """Every kind of way that a packet from or to a pod can take, in both families."""
        node, far, near, a, world = (
            (NODE4, NODE6),
            self.far.addresses,
            self.near.addresses,
            self.a.addresses,
            (WORLD4, WORLD6),
        )
        host = self.first.place
        ends = [
            ("pod-pod", self.a, self.near, near),
            ("pod-far", self.a, self.far, far),
            ("far-pod", self.far, self.a, a),
            ("host-pod", host, self.a, a),
            ("pod-host", self.a, host, node),
            ("host-far", host, self.far, far),
            ("pod-world", self.a, self.world, world),
            ("world-pod", self.world, self.a, a),
        ]
        return [Way(name, source, target, ips[at]) for at in (0, 1) for name, source, target, ips in ends]

    def places(self) -> list[Place]:
        return [self.first.place, self.second.place, self.world, self.a, self.near, self.far]


def inside(place: Place, function: Any, *arguments: Any) -> Any:
    return netns.run_in(place.fd, function, *arguments)


def counter(place: Place, name: str) -> int:
    """A counter of the kernel in that namespace: `Ip.FragCreates`, `Tcp.InCsumErrors`, `Ip6FragCreates`."""

    def read() -> int:
        group, _, field = name.partition(".")
        if not field:
            lines = Path("/proc/thread-self/net/snmp6").read_text().split("\n")
            return next(int(line.split()[1]) for line in lines if line.startswith(f"{name} "))
        rows = [line.split() for line in Path("/proc/thread-self/net/snmp").read_text().split("\n")]
        names, values = [row for row in rows if row and row[0] == f"{group}:"]
        return int(values[names.index(field)])

    return int(inside(place, read))


def set_offload(place: Place, device: str, *, on: bool, features: tuple[str, ...]) -> None:
    """As `ethtool -K` does."""

    def change() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            for feature in features:
                value = (ctypes.c_uint32 * 2)(ETHTOOL_SET[feature], on)
                fcntl.ioctl(control, SIOCETHTOOL, struct.pack("16sP", device.encode(), ctypes.addressof(value)))

    inside(place, change)


def bound(place: Place, family: int, kind: int, address: str = "") -> tuple[socket.socket, int]:
    """A socket on any address, or this one, and a free port."""
    made = place.socket(family, kind)
    made.settimeout(TIMEOUT_S)
    made.bind((address, 0))
    return made, made.getsockname()[1]


def udp_there_and_back(way: Way, size: int, *, timeout_s: float = TIMEOUT_S) -> bool:
    """Send a datagram, and the same back. It is what was sent, or it did not arrive."""
    server, port = bound(way.target, way.family, socket.SOCK_DGRAM, way.address)  # a host answers from any that it has
    with server, way.source.socket(way.family, socket.SOCK_DGRAM) as client:
        server.settimeout(timeout_s)
        client.settimeout(timeout_s)
        client.connect((way.address, port))
        data = os.urandom(size)
        with suppress(TimeoutError):
            client.send(data)
            got, peer = server.recvfrom(1 << 16)
            assert got == data
            server.sendto(got, peer)
            assert client.recv(1 << 16) == data
            return True
    return False


def stream(way: Way, size: int) -> None:
    """Send random bytes over TCP; the other end has to have them all, and says so by their digest."""
    server, port = bound(way.target, way.family, socket.SOCK_STREAM)
    digest = hashlib.sha256()
    data = os.urandom(1 << 16) * (size >> 16)
    with server:
        server.listen(1)

        def receive() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(TIMEOUT_S)
                while part := connection.recv(1 << 16):
                    digest.update(part)
                connection.sendall(digest.digest())

        worker = threading.Thread(target=receive)
        worker.start()
        try:
            with way.source.connect(way.address, port, TIMEOUT_S) as client:
                client.settimeout(20.0)
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                answer = client.recv(64)
        finally:
            worker.join(20.0)
    assert answer == hashlib.sha256(data).digest(), way.name


def ping(place: Place, address: str, *flags: str) -> bool:
    command = ["nsenter", f"--net={place.path}", "ping", "-c1", "-W3", *flags, address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def forwarding(place: Place) -> None:
    """Make a router of it, that sends nobody elsewhere."""

    def change() -> None:
        sysctl.write("net.ipv4.ip_forward", 1)
        sysctl.write("net.ipv6.conf.all.forwarding", 1)
        for device in ("all", "default", "wire"):
            sysctl.write("net.ipv4.conf.{}.send_redirects", 0, device)
            sysctl.write("net.ipv4.conf.{}.rp_filter", 0, device)

    inside(place, change)


def clusters(folder: Path, settings: dict[str, dict[str, Any]] | None = None) -> Iterator[Cluster]:
    """For a fixture."""
    made = Cluster(folder, settings)
    try:
        yield made
    finally:
        made.close()
