# SPDX-License-Identifier: Apache-2.0
"""The paths that ours is compared with: kernel routing between two veth pairs, one veth pair, and its tuning."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PREFIX = f"cptb{os.getpid()}"


@dataclass(frozen=True)
class Path2:
    """Two ends that can talk: namespace paths and the server's addresses."""

    name: str
    client: str
    server: str
    ipv4: str
    ipv6: str


def ip(*arguments: str, netns: str | None = None) -> None:
    command = ["ip", *(["-n", netns] if netns else []), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@contextlib.contextmanager
def namespaces(*names: str) -> Iterator[list[str]]:
    """Named namespaces, removed at the end whatever happens."""
    made = []
    try:
        for name in names:
            full = f"{PREFIX}-{name}"
            ip("netns", "add", full)
            made.append(full)
            ip("link", "set", "lo", "up", netns=full)
        yield made
    finally:
        for full in made:
            subprocess.run(["ip", "netns", "del", full], check=False, capture_output=True)


def netns_path(name: str) -> str:
    return f"/run/netns/{name}"


def sysctl(netns: str, **values: str) -> None:
    """Write sysctls inside a namespace; double underscore is a dot, e.g. net__ipv4__ip_forward="1"."""
    lines = [f"echo {value} > /proc/sys/{key.replace('__', '/')}" for key, value in values.items()]
    subprocess.run(["ip", "netns", "exec", netns, "sh", "-ec", "; ".join(lines)], check=True)


def tune_client(path: str) -> None:
    """Make connect-request-close measure the path and not TIME_WAIT."""
    script = (
        "echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse; echo 500 > /proc/sys/net/ipv4/tcp_max_tw_buckets;"
        "echo '10000 65000' > /proc/sys/net/ipv4/ip_local_port_range"
    )
    subprocess.run(["nsenter", f"--net={path}", "sh", "-ec", script], check=True)


@contextlib.contextmanager
def direct() -> Iterator[Path2]:
    """One veth pair between two namespaces: nothing in between."""
    with namespaces("dc", "ds") as (client, server):
        ip("link", "add", "eth0", "netns", client, "type", "veth", "peer", "name", "eth0", "netns", server)
        _address(client, "10.211.0.1/24", "fd11::1/64")
        _address(server, "10.211.0.2/24", "fd11::2/64")
        yield Path2("direct", netns_path(client), netns_path(server), "10.211.0.2", "fd11::2")


@contextlib.contextmanager
def routing() -> Iterator[Path2]:
    """Two veth pairs and a namespace that forwards between them by the kernel's routing."""
    with namespaces("rc", "rr", "rs") as (client, router, server):
        for end, number in ((client, 1), (server, 2)):
            ip("link", "add", "eth0", "netns", end, "type", "veth", "peer", "name", f"r{number}", "netns", router)
            _address(end, f"10.212.{number}.2/24", f"fd12:{number}::2/64")
            ip("addr", "add", f"10.212.{number}.1/24", "dev", f"r{number}", netns=router)
            ip("addr", "add", f"fd12:{number}::1/64", "dev", f"r{number}", "nodad", netns=router)
            ip("link", "set", f"r{number}", "up", netns=router)
            ip("route", "add", "default", "via", f"10.212.{number}.1", netns=end)
            ip("-6", "route", "add", "default", "via", f"fd12:{number}::1", netns=end)
        sysctl(router, net__ipv4__ip_forward="1", net__ipv6__conf__all__forwarding="1")
        yield Path2("routing", netns_path(client), netns_path(server), "10.212.2.2", "fd12:2::2")


@contextlib.contextmanager
def vxlan() -> Iterator[Path2]:
    """Two nodes on a bridge, a pod on each, and a vxlan device a node: addresses, neighbours and routes are static."""
    with namespaces("vw", "vn1", "vn2", "vp1", "vp2") as (wire, *rest):
        ip("link", "add", "wire0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0", netns=wire)
        ip("link", "set", "wire0", "up", netns=wire)
        if Path("/proc/sys/net/bridge").is_dir():  # as in a lab
            sysctl(wire, **{f"net__bridge__bridge-nf-call-{name}": "0" for name in ("iptables", "ip6tables")})
        for number, node, pod in ((1, rest[0], rest[2]), (2, rest[1], rest[3])):
            other = 3 - number
            ip("link", "add", "eth0", "netns", node, "type", "veth", "peer", "name", f"n{number}", "netns", wire)
            ip("link", "set", f"n{number}", "master", "wire0", "up", netns=wire)
            _address(node, f"10.213.0.{number}/24", f"fd13::{number}/64")
            tunnel = ("type", "vxlan", "id", "42", "dstport", "4789", "local", f"10.213.0.{number}", "nolearning")
            mac = f"02:00:00:00:13:0{number}"
            ip("link", "add", "vx0", "address", mac, *tunnel, "noudpcsum", netns=node)
            ip("link", "set", "vx0", "mtu", "1450", "up", netns=node)
            peer_mac = f"02:00:00:00:13:0{other}"
            subprocess.run(
                ["bridge", "-n", node, "fdb", "add", peer_mac, "dev", "vx0", "dst", f"10.213.0.{other}"], check=True
            )
            ip("link", "add", "eth0", "netns", pod, "type", "veth", "peer", "name", "pod0", "netns", node)
            _address(pod, f"10.214.{number}.2/24", f"fd14:{number}::2/64")
            ip("link", "set", "eth0", "mtu", "1450", netns=pod)
            ip("link", "set", "pod0", "mtu", "1450", "up", netns=node)
            ip("addr", "add", f"10.214.{number}.1/24", "dev", "pod0", netns=node)
            ip("addr", "add", f"fd14:{number}::1/64", "dev", "pod0", "nodad", netns=node)
            ip("route", "add", "default", "via", f"10.214.{number}.1", netns=pod)
            ip("-6", "route", "add", "default", "via", f"fd14:{number}::1", netns=pod)
            for via, network in (
                (f"10.215.0.{other}", f"10.214.{other}.0/24"),
                (f"fd15::{other}", f"fd14:{other}::/64"),
            ):
                ip("neigh", "add", via, "lladdr", peer_mac, "dev", "vx0", "nud", "permanent", netns=node)
                ip("route", "add", network, "via", via, "dev", "vx0", "onlink", netns=node)
            sysctl(node, net__ipv4__ip_forward="1", net__ipv6__conf__all__forwarding="1")
        yield Path2("vxlan", netns_path(rest[2]), netns_path(rest[3]), "10.214.2.2", "fd14:2::2")


def _address(netns: str, ipv4: str, ipv6: str) -> None:
    ip("link", "set", "eth0", "up", netns=netns)
    ip("addr", "add", ipv4, "dev", "eth0", netns=netns)
    ip("addr", "add", ipv6, "dev", "eth0", "nodad", netns=netns)


def build_load(folder: Path) -> Path:
    """Compile load.c into the folder."""
    out = folder / "load"
    subprocess.run(["cc", "-O2", "-Wall", "-o", str(out), str(Path(__file__).with_name("load.c"))], check=True)
    return out
