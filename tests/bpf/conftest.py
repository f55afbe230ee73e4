# SPDX-License-Identifier: Apache-2.0
"""One network namespace for all packet tests (a test run needs real devices and routes), a fresh node for each."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ciliumpy.bpf import build
from tests.bpf.node import NODE_MAC, NOWHERE, OWN_CIDR, OWN_NODE, Node
from tests.bpf.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLONE_NEWNET = 0x40000000
TESTING = Path(__file__).parent / "c"


def _enter(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@pytest.fixture(scope="session")
def _namespace() -> Iterator[tuple[int, dict[str, int]]]:
    """(its fd, ifindex by name). It has no name and ends with its descriptor."""
    from pyroute2 import IPRoute

    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        inside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            with IPRoute() as ipr:
                devices = {}
                for name in ("lxc1", "lxc2", "lxc3", "host", "vxlan", "eth0"):
                    ipr.link("add", ifname=name, kind="veth", mtu=9000, peer={"ifname": f"{name}p", "mtu": 9000})
                    devices[name] = ipr.link_lookup(ifname=name)[0]
                    if name == "eth0":
                        ipr.link("set", index=devices[name], address=NODE_MAC)
                    ipr.link("set", index=devices[name], state="up")
                    ipr.link("set", index=ipr.link_lookup(ifname=f"{name}p")[0], state="up")
                for where in ("ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding"):
                    Path("/proc/sys/net", where).write_text("1")
                Path("/proc/sys/net/ipv6/conf/eth0/accept_dad").write_text("0")
                ipr.addr("add", index=devices["eth0"], address=OWN_NODE[4], prefixlen=24)
                ipr.addr("add", index=devices["eth0"], address=OWN_NODE[6], prefixlen=64)
                ipr.route("add", dst="default", gateway="192.168.9.254")
                ipr.route("add", dst="default", gateway="fd00:9::254", family=10)
                for own in OWN_CIDR.values():
                    ipr.route("add", dst=own, oif=devices["host"])
                for nowhere in NOWHERE.values():
                    ipr.route("add", dst=nowhere, type="unreachable")
            _enter(before)
            yield inside, devices
        finally:
            _enter(before)
            os.close(inside)
    finally:
        os.close(before)


@pytest.fixture
def devices(_namespace: tuple[int, dict[str, int]]) -> Iterator[dict[str, int]]:
    """Interface numbers by name; the test runs in their namespace."""
    inside, found = _namespace
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    _enter(inside)
    try:
        yield found
    finally:
        _enter(before)
        os.close(before)


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The objects of the package, built afresh, and those for tests only."""
    build.build()
    found = {"datapath": build.OBJECTS / "datapath.o", "closed": build.OBJECTS / "closed.o"}
    folder = tmp_path_factory.mktemp("objects")
    for source in TESTING.glob("*.bpf.c"):
        name = source.name.removesuffix(".bpf.c")
        found[name] = folder / f"{name}.o"
        build.compile_object(source, found[name], extra=("-I", str(build.SOURCES)))
    return found


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    made = Pool()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def make_node(devices: dict[str, int], objects: dict[str, Path], pool: Pool) -> Iterator[Callable[..., Node]]:
    """Node of an object (datapath unless named), constants and map sizes as wanted."""
    made: list[Node] = []

    def make(name: str = "datapath", sizes: dict[str, int] | None = None, **rodata: int) -> Node:
        made.append(Node(pool, objects[name], devices, sizes=sizes, **rodata))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.close()


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    return make_node()


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)
