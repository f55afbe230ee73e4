# SPDX-License-Identifier: Apache-2.0
"""Kernel settings of a network namespace: `write` acts on the calling thread's one."""

from __future__ import annotations

import os
from pathlib import Path

from ciliumpy.kit.errors import CiliumpyError


def _path(key: str, device: str) -> str:
    # A device's name may hold dots: it is put in after the key has been split.
    return "/proc/sys/" + key.replace(".", "/").replace("{}", device)


def read(key: str, device: str = "") -> str:
    """Return the setting, e.g. `read("net.ipv4.conf.{}.rp_filter", "eth0")`."""
    try:
        # /proc/sys/net shows the namespace of the thread that opens it.
        return Path(_path(key, device)).read_text(encoding="ascii").strip()
    except OSError as error:
        raise CiliumpyError(f"cannot read the setting {key.format(device)}: {error.strerror}") from error


def write(key: str, value: int | str, device: str = "") -> bool:
    """Set it if it differs; return whether it did."""
    if read(key, device) == str(value):
        return False
    try:
        fd = os.open(_path(key, device), os.O_WRONLY)
        try:
            os.write(fd, str(value).encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise CiliumpyError(
            f"cannot set {key.format(device)} to {value}: {error.strerror}",
            "it takes root, and /proc/sys mounted writable",
        ) from error
    return True


def prepare_node() -> None:
    """Set up a namespace that forwards for pods: forwarding on, reverse path filter off, no address detection.

    The kernel takes the stricter of `all` and the device for rp_filter, so devices that are there already are set too.
    """
    write("net.ipv4.ip_forward", 1)
    write("net.ipv6.conf.all.forwarding", 1)
    # Lookups for packets of pods then know of a route's MTU what the node's own packets know.
    write("net.ipv4.ip_forward_use_pmtu", 1)
    write("net.ipv6.conf.default.accept_dad", 0)
    for device in ("all", "default", *sorted(p.name for p in Path("/proc/sys/net/ipv4/conf").iterdir())):
        write("net.ipv4.conf.{}.rp_filter", 0, device)


def prepare_device(device: str) -> None:
    """Set up a node's own device (cilium_host, cilium_vxlan, the underlay)."""
    write("net.ipv4.conf.{}.rp_filter", 0, device)
    write("net.ipv4.conf.{}.forwarding", 1, device)
    write("net.ipv6.conf.{}.accept_dad", 0, device)
    write("net.ipv6.conf.{}.accept_ra", 0, device)


def prepare_pod_host_side(device: str) -> None:
    """Set up a pod's host-side device. The stack forwards nothing from it: the program on it decides alone.

    That is the second belt, for IPv4 only (IPv6 has no such switch a device). It gets no link-local address: the
    program answers neighbours for it.
    """
    write("net.ipv4.conf.{}.rp_filter", 0, device)
    write("net.ipv4.conf.{}.forwarding", 0, device)
    write("net.ipv6.conf.{}.addr_gen_mode", 1, device)
    write("net.ipv6.conf.{}.accept_dad", 0, device)
    write("net.ipv6.conf.{}.accept_ra", 0, device)
