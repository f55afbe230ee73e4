# SPDX-License-Identifier: Apache-2.0
"""The devices and routes that a test run of a program needs, in a namespace of their own."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from tests.bpf.node import NODE_MAC, NOWHERE, OWN_CIDR, OWN_NODE

CLONE_NEWNET = 0x40000000


def enter(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def namespace() -> Iterator[tuple[int, dict[str, int]]]:
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
            enter(before)
            yield inside, devices
        finally:
            enter(before)
            os.close(inside)
    finally:
        os.close(before)
