# SPDX-License-Identifier: Apache-2.0
"""Local endpoints. Written by endpoints/ alone: pods by controller.py, the host by host.py."""

from __future__ import annotations

import msgspec

from ciliumpy.state.table import TableSpec
from ciliumpy.tables.source import NamedPort

HOST_ID = 4095  # HOST_SLOT of bpf/c/layout.h: this node itself, where policies for it are in force


class Endpoint(msgspec.Struct, frozen=True):
    """A pod of this node that has an interface, or the node itself. Its id is its slot in the datapath."""

    id: int
    generation: int  # grows each time the id is given out
    namespace: str
    pod: str
    container_id: str
    interface: str  # in the pod: eth0
    host_interface: str  # on the node: lxc...
    ifindex: int
    peer_ifindex: int
    mac: str
    host_mac: str
    ipv4: str = ""
    ipv6: str = ""
    labels: tuple[str, ...] = ()  # security labels
    identity: int = 0  # 0: none yet
    state: str = "waiting-for-identity"  # as in the field: not-ready, ready, restoring, disconnecting, ...
    error: str = ""
    named_ports: tuple[NamedPort, ...] = ()  # of the pod's containers
    audit: bool | None = None  # what policy denies passes and is told of; None: as the agent's configuration says
    chained: bool = False  # devices and addresses are another CNI plugin's: never made, filled or removed here

    @property
    def is_host(self) -> bool:
        """Whether it is the node: it has no device, no address of its own and no pod."""
        return self.id == HOST_ID


ENDPOINTS = TableSpec(
    "endpoints",
    Endpoint,
    key=lambda r: r.id,
    indexes={
        "pod": lambda r: ((r.namespace, r.pod),),
        "identity": lambda r: (r.identity,),
        "labels": lambda r: (r.labels,),
        "ip": lambda r: tuple(a for a in (r.ipv4, r.ipv6) if a),
        "container": lambda r: ((r.container_id, r.interface),),
    },
)
