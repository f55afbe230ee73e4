# SPDX-License-Identifier: Apache-2.0
"""A node for a test: a real agent in a network namespace, a store, pods, and the world at the other end of the wire.

Everything is anonymous or below a temporary folder.
"""

from __future__ import annotations

import fcntl
import http.client
import itertools
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ciliumpy.bpf.maps import Map
from ciliumpy.bpf.pins import mounted
from ciliumpy.net import addresses, links, netns, routes
from ciliumpy.store.directory.store import create_store

_numbers = itertools.count()
WORLD4, WORLD6 = "172.30.7.254", "fd00:30:7::fe"
NODE4, NODE6 = "172.30.7.1", "fd00:30:7::1"


class Place:
    """A network namespace; `fd` keeps it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = netns.new_namespace(path)
        netns.run_in(self.fd, links.set_up, "lo")

    def close(self) -> None:
        os.close(self.fd)
        netns.remove_namespace(self.path)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        made = netns.run_in(self.fd, socket.socket, family, kind, protocol)
        made.settimeout(3.0)
        return made

    def ping(self, address: str, *, count: int = 1, timeout_s: float = 3.0, source: str = "") -> bool:
        """Tell whether every echo request was answered."""
        v6 = ":" in address
        echo = (128, 129) if v6 else (8, 0)
        with self.socket(
            socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if v6 else 1
        ) as raw:
            if source:
                raw.setsockopt(socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP, 78 if v6 else 19, 1)  # FREEBIND
                raw.bind((source, 0))
            number = next(_numbers) & 0xFFFF
            for sequence in range(count):
                body = struct.pack("!BBHHH", echo[0], 0, 0, number, sequence) + bytes(40)
                if not v6:
                    body = body[:2] + struct.pack("!H", _checksum(body)) + body[4:]
                raw.sendto(body, (address, 0))
                if not _echo(raw, echo[1], number, sequence, timeout_s, v6=v6):
                    return False
        return True

    def connect(self, address: str, port: int, timeout_s: float = 3.0) -> socket.socket:
        """Open a TCP connection. TimeoutError or ConnectionRefusedError if it cannot be."""
        made = self.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(timeout_s)
        try:
            made.connect((address, port))
        except BaseException:
            made.close()
            raise
        return made

    def can_connect(self, address: str, port: int, timeout_s: float = 3.0) -> bool:
        try:
            self.connect(address, port, timeout_s).close()
        except (TimeoutError, ConnectionRefusedError, OSError):
            return False
        return True

    def listen(self, port: int) -> socket.socket:
        """Accept TCP connections of both families (by the kernel; nobody reads)."""
        made = self.socket(socket.AF_INET6, socket.SOCK_STREAM)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("::", port))
        made.listen(64)
        return made


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _echo(raw: socket.socket, kind: int, number: int, sequence: int, timeout_s: float, *, v6: bool) -> bool:
    until = time.monotonic() + timeout_s
    while (left := until - time.monotonic()) > 0:
        if not select.select([raw], [], [], left)[0]:
            return False
        data = raw.recv(2048)
        data = data if v6 else data[(data[0] & 15) * 4 :]
        if data[0] == kind and struct.unpack("!HH", data[4:8]) == (number, sequence):
            return True
    return False


class Pod(Place):
    """A pod's namespace with what the agent answered."""

    def __init__(self, name: str, path: Path, namespace: str = "shop") -> None:
        super().__init__(path)
        self.name, self.namespace = name, namespace
        self.container = f"c-{name}-{os.getpid()}"
        self.result: dict[str, Any] = {}

    @property
    def addresses(self) -> tuple[str, str]:
        four, six = (ip["address"].split("/")[0] for ip in self.result["ips"])
        return four, six


class Wire(Place):
    """What nodes are connected by, and the world: a bridge with addresses of its own."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)

        def make() -> None:
            bridge = links.ensure_bridge("wire", 1500)
            addresses.set_addresses(bridge, [f"{WORLD4}/24", f"{WORLD6}/64"])

        netns.run_in(self.fd, make)

    def plug(self, place: Place, number: int) -> None:
        """Give a node its eth0, and route the pods of the node with that number to it (they are claimed in order)."""

        def near() -> None:
            eth0, _ = links.create_veth("eth0", self.fd, f"port{number}", mtu=1500, up=True)
            addresses.set_addresses(eth0, [f"172.30.7.{number}/24", f"fd00:30:7::{number}/64"])

        def far() -> None:
            links.set_master(f"port{number}", "wire")
            wire = links.need("wire").ifindex
            routes.replace_route(f"10.244.{number - 1}.0/24", wire, via=f"172.30.7.{number}")
            routes.replace_route(f"fd00:10:244:{number - 1}::/64", wire, via=f"fd00:30:7::{number}")

        netns.run_in(place.fd, near)
        netns.run_in(self.fd, far)


class AgentNode:
    """A node, `n1` the first. `settings` go into its configuration, part by part; `beside` shares wire and store."""

    def __init__(
        self, folder: Path, settings: dict[str, dict[str, Any]] | None = None, beside: AgentNode | None = None
    ) -> None:
        self.folder = folder
        self.number = beside.number + 1 if beside else 1
        self.name = f"n{self.number}"
        self.run, self.state = folder / "run", folder / "state"
        self.store = beside.store if beside else folder / "store"
        self.bpffs = mounted() / f"cpt-{os.getpid()}-{next(_numbers)}"
        self.process: subprocess.Popen[bytes] | None = None
        self.pods: dict[str, Pod] = {}
        self.place = Place(folder / "ns-node")
        self.world = beside.world if beside else Wire(folder / "ns-world")
        self._owns_world = beside is None
        self.world.plug(self.place, self.number)
        create_store(self.store)
        config: dict[str, dict[str, Any]] = {
            "node": {"name": self.name, "lab": "test"},
            "store": {"path": str(self.store)},
            "paths": {"run": str(self.run), "state": str(self.state), "bpffs": str(self.bpffs)},
        }
        for part, values in (settings or {}).items():
            config.setdefault(part, {}).update(values)
        self.config = folder / "agent.yaml"
        self.config.write_text(json.dumps(config))

    # ---- the agent ---------------------------------------------------------------------------------------------------

    def start(self, *, wait: bool = True, program: Sequence[str] = ("-m", "ciliumpy.daemon")) -> float:
        """Start the agent, or a test's double of it; return the seconds until it said ok."""
        began = time.monotonic()
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "nsenter",
                    f"--net={self.place.path}",
                    sys.executable,
                    *program,
                    "--config",
                    str(self.config),
                ],
                stdout=log,
                stderr=log,
            )
        if wait:
            self.until(lambda: self.health() == "ok", 25.0)
        return time.monotonic() - began

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the agent and wait for its end; return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(10)
        self.process = None
        return code

    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def get(self, path: str) -> Any:
        """Ask the admin API."""
        connection = http.client.HTTPConnection("agent", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(self.run / "agent.sock"))
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def health(self) -> str:
        if self.process is None or self.process.poll() is not None:
            raise AssertionError(f"the agent has ended:\n{self.log()}")
        with suppress(OSError, http.client.HTTPException):
            return str(self.get("/v1/health")["status"])
        return "down"

    def until(self, condition: Any, timeout_s: float = 10.0) -> Any:
        """Wait until it holds; the agent tells of changes nowhere outside of itself, so it is asked."""
        until = time.monotonic() + timeout_s
        while not (found := condition()):
            if time.monotonic() > until:
                raise AssertionError(f"not after {timeout_s:g} s\n{self.log()}")
            time.sleep(0.01)
        return found

    # ---- objects -----------------------------------------------------------------------------------------------------

    def apply(self, name: str, *objects: dict[str, Any]) -> None:
        """Put objects into a file of the store, in one step."""
        temporary = self.folder / f"{name}.tmp"
        temporary.write_text("\n---\n".join(json.dumps(each) for each in objects))
        temporary.rename(self.store / f"{name}.yaml")

    def delete(self, name: str) -> None:
        (self.store / f"{name}.yaml").unlink()

    def policy_in_force(self, pod: str, direction: str = "ingress") -> bool:
        """Tell whether the datapath enforces policy for a pod."""
        for row in self.get("/v1/endpoints")["items"]:
            if row["pod"] == pod:
                return bool(row["policy"][direction] == "enabled" and row["state"] == "ready")
        return False

    # ---- pods --------------------------------------------------------------------------------------------------------

    def cni(self, command: str, pod: Pod, *, netns_fd: int | None = None, ifname: str = "eth0") -> dict[str, Any]:
        """Ask the agent as the plugin does; return its answer."""
        line = json.dumps(
            {
                "command": command,
                "containerID": pod.container,
                "ifname": ifname,
                "netns": str(pod.path),
                "podNamespace": pod.namespace,
                "podName": pod.name,
                "podUID": "",
            }
        ).encode()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)  # an ADD that does not get ready takes 10 s on an idle machine
            client.connect(str(self.run / "cni.sock"))
            socket.send_fds(client, [line + b"\n"], [] if netns_fd is None else [netns_fd])
            answer = b""
            while not answer.endswith(b"\n") and (part := client.recv(65536)):
                answer += part
        return dict(json.loads(answer))

    def know(self, *names: str, labels: dict[str, str] | None = None) -> None:
        """Tell the store of pods of this node."""
        pods = [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "shop", "labels": labels or {"app": name}},
                "spec": {"nodeName": self.name, "containers": [{"name": "c"}]},
            }
            for name in names
        ]
        self.apply(f"pod-{names[0]}", *pods)

    def add(self, name: str, *, labels: dict[str, str] | None = None, known: bool = True) -> Pod:
        """Make a pod, known to the store or not, and plug it in."""
        if known:
            self.know(name, labels=labels)
        pod = Pod(name, self.folder / f"ns-{name}-{next(_numbers)}")
        self.pods[name] = pod
        answer = self.cni("ADD", pod, netns_fd=pod.fd)
        assert "result" in answer, (answer, self.log())
        pod.result = answer["result"]
        return pod

    def map(self, name: str) -> Map:
        """A pinned map. The caller closes it."""
        return Map.open_pinned(self.bpffs / "maps" / name)

    def devices(self) -> list[str]:
        return netns.run_in(self.place.fd, lambda: [link.name for link in links.links()])

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        for place in (*self.pods.values(), self.place):
            place.close()
        if self._owns_world:
            self.world.close()
        if self.bpffs.exists():
            shutil.rmtree(self.bpffs)


def policy(name: str, subject: str, *, peer: str | None, port: int = 8080) -> dict[str, Any]:
    """Allow only `peer` (nobody, if None) to `subject` on a TCP port."""
    rules: list[dict[str, Any]] = []
    if peer is not None:
        rules = [
            {
                "fromEndpoints": [{"matchLabels": {"app": peer}}],
                "toPorts": [{"ports": [{"port": str(port), "protocol": "TCP"}]}],
            }
        ]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"endpointSelector": {"matchLabels": {"app": subject}}, "ingress": rules or [{}]},
    }


def passes(connection: socket.socket) -> bool:
    """Tell whether a byte sent on the connection is acknowledged within half a second."""
    connection.sendall(b"x")
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        if struct.unpack("i", fcntl.ioctl(connection, 0x5411, bytes(4)))[0] == 0:  # SIOCOUTQ
            return True
        time.sleep(0.005)
    return False


def drops(node: AgentNode, reason: int) -> int:
    """Return how many packets the node has dropped for a reason."""
    with node.map("cp_metrics_v1") as map_:
        _, values = map_.items()
    return int(values["packets"][reason * 2 : reason * 2 + 2].sum())
