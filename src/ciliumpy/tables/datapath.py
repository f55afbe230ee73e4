# SPDX-License-Identifier: Apache-2.0
"""What the kernel shall hold where that is not a derived row as it is, and what it is known to hold.

Written by datapath/ alone, routes by nodes/controller.py. The encoding is that of bpf/c/layout.h.
"""

from __future__ import annotations

import msgspec

from ciliumpy.state.table import TableSpec
from ciliumpy.tables.endpoints import HOST_ID
from ciliumpy.tables.source import NamedPort


class InstalledSet(msgspec.Struct, frozen=True):
    """A policy set that is complete in the kernel: endpoints of its identity, and of its named ports, point at it.

    Where an endpoint could point at two, the one with the higher number is the newer.
    """

    identity: int
    id: int
    ingress_enforced: bool
    egress_enforced: bool
    named_ports: tuple[NamedPort, ...] | None = None  # None: whatever ports the endpoint has


class KernelEndpoint(msgspec.Struct, frozen=True):
    """One slot of the datapath, joined from the endpoint and its identity's installed set.

    There is no row until both are known; a row keeps its former identity and set until the next set is installed, so
    that the two never disagree.
    """

    slot: int
    generation: int
    ifindex: int
    peer_ifindex: int
    host_interface: str
    identity: int
    policy_set: int
    ingress_enforced: bool
    egress_enforced: bool
    mac: str
    host_mac: str
    ipv4: str = ""
    ipv6: str = ""
    chained: bool = False  # another plugin's device: it asks for more neighbours than the router
    audit: bool = False  # what policy denies passes

    @property
    def is_host(self) -> bool:
        return self.slot == HOST_ID


class Route(msgspec.Struct, frozen=True):
    """A pod CIDR that the host reaches through its door into the pod network."""

    destination: str  # 10.244.1.0/24
    source: str  # the host's address there


class NodeAddress(msgspec.Struct, frozen=True):
    """An address that this node has, loopback and link-local ones aside."""

    address: str
    device: str
    native: bool = False  # of the device to the other nodes: they are told of it


class InstalledWidth(msgspec.Struct, frozen=True):
    """How many selectors the programs on this node's devices tell apart; why they are not as many as are wanted."""

    bits: int
    error: str = ""


INSTALLED_SETS = TableSpec(
    "installed-sets",
    InstalledSet,
    key=lambda r: (r.identity, r.named_ports),
    indexes={"identity": lambda r: (r.identity,)},
)
KERNEL_ENDPOINTS = TableSpec(
    "kernel-endpoints", KernelEndpoint, key=lambda r: r.slot, indexes={"set": lambda r: (r.policy_set,)}
)
NODE_ADDRESSES = TableSpec("node-addresses", NodeAddress, key=lambda r: r.address)
ROUTES = TableSpec("routes", Route, key=lambda r: r.destination)
INSTALLED_WIDTH = TableSpec("installed-width", InstalledWidth, key=lambda _: 0)
