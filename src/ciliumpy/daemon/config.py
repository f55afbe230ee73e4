# SPDX-License-Identifier: Apache-2.0
"""The agent's configuration: one struct a part. Keys in YAML are camelCase; `state.config` fills them."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.state import config as settings

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Entries = Annotated[int, msgspec.Meta(ge=16, le=1 << 24)]

LAB_CONNTRACK, HOST_CONNTRACK = 65536, 524288
LAB_IPCACHE, HOST_IPCACHE = 65536, 512000


class Part(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A part of the configuration."""


class NodeConfig(Part, frozen=True):
    name: str = ""  # empty: the machine's host name
    cluster: str = "default"
    lab: str = ""
    labels: dict[str, str] = {}  # of its CiliumNode


class StoreConfig(Part, frozen=True):
    path: str = "/etc/ciliumpy/store"


class PathsConfig(Part, frozen=True):
    run: str = "/run/ciliumpy"
    state: str = "/var/lib/ciliumpy"
    bpffs: str = "/sys/fs/bpf/ciliumpy"
    cgroup: str = ""  # empty: found from the mounts


class NetworkConfig(Part, frozen=True):
    device: str = "eth0"
    tunnel: Literal["vxlan"] = "vxlan"
    tunnel_port: Port = 8472
    mtu: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0  # of the underlay; 0: the device's
    ipv4: bool = True
    ipv6: bool = True


class IpamConfig(Part, frozen=True):
    cluster_pod_cidrs: tuple[str, ...] = msgspec.field(
        name="clusterPodCIDRs", default=("10.244.0.0/16", "fd00:10:244::/48")
    )
    node_mask_sizes: tuple[int, ...] = (24, 64)  # IPv4, IPv6


class PolicyConfig(Part, frozen=True):
    enforcement: Literal["default", "always", "never"] = "default"


class HubbleConfig(Part, frozen=True):
    flows: Positive = 65536
    ring_bytes: Positive = 1 << 20  # of each CPU; a power of two


class ConntrackConfig(Part, frozen=True):
    entries: Annotated[int, msgspec.Meta(ge=0, le=1 << 24)] = 0  # 0: 65,536 in a lab, 524,288 on a host
    timeout_tcp_syn: Positive = 60  # seconds, as all here
    timeout_tcp: Positive = 8000
    timeout_any: Positive = 60
    timeout_tcp_fin: Positive = 10


class MapsConfig(Part, frozen=True):
    policy_classes: Entries = 16384
    policy_ports: Entries = 65536
    policy_sets: Entries = 16384
    policy_ranges: Entries = 16384
    identities: Entries = 65536
    ipcache: Annotated[int, msgspec.Meta(ge=0, le=1 << 24)] = 0  # 0: 65,536 in a lab, 512,000 on a host


class LogConfig(Part, frozen=True):
    level: Literal["debug", "info", "warning", "error"] = "info"


class AgentConfig(Part, frozen=True):
    """All parts. What is not set has its default; what depends on lab or host is resolved by the properties."""

    node: NodeConfig = NodeConfig()
    store: StoreConfig = StoreConfig()
    paths: PathsConfig = PathsConfig()
    network: NetworkConfig = NetworkConfig()
    ipam: IpamConfig = IpamConfig()
    policy: PolicyConfig = PolicyConfig()
    hubble: HubbleConfig = HubbleConfig()
    conntrack: ConntrackConfig = ConntrackConfig()
    maps: MapsConfig = MapsConfig()
    log: LogConfig = LogConfig()

    @property
    def name(self) -> str:
        return self.node.name or os.uname().nodename

    @property
    def run(self) -> Path:
        return Path(self.paths.run)

    @property
    def state(self) -> Path:
        return Path(self.paths.state)

    @property
    def bpffs(self) -> Path:
        return Path(self.paths.bpffs)

    def pool(self, version: int) -> tuple[str, int] | None:
        """Return the cluster's pod CIDR of a family and the length of a node's part; None if the family is off."""
        if not (self.network.ipv4 if version == 4 else self.network.ipv6):
            return None
        for cidr in self.ipam.cluster_pod_cidrs:
            if ipaddress.ip_network(cidr).version == version:
                return cidr, self.ipam.node_mask_sizes[0 if version == 4 else 1]
        return None

    def map_sizes(self) -> dict[str, int]:
        """Return the entries of the maps whose size is a setting."""
        lab = bool(self.node.lab)
        conntrack = self.conntrack.entries or (LAB_CONNTRACK if lab else HOST_CONNTRACK)
        ipcache = self.maps.ipcache or (LAB_IPCACHE if lab else HOST_IPCACHE)
        return {
            "cp_ct4_v1": conntrack,
            "cp_ct6_v1": conntrack,
            "cp_iphost_v1": ipcache,
            "cp_ipcidr_v1": ipcache,
            "cp_vector_v1": self.maps.identities,
            "cp_set_v1": self.maps.policy_sets,
            "cp_port_v1": self.maps.policy_ports,
            "cp_range_v1": self.maps.policy_ranges,
            "cp_class_v1": self.maps.policy_classes,
        }


Loaded = settings.Config[AgentConfig]


def load(file: Path | None, env: dict[str, str]) -> Loaded:
    """Read and check the configuration. CiliumpyError names the place of what does not fit."""
    config = settings.load(AgentConfig, env=env, file=file)
    _check(config.value)
    return config


def _check(config: AgentConfig) -> None:
    if not (config.network.ipv4 or config.network.ipv6):
        raise CiliumpyError("network.ipv4 and network.ipv6 are both off", "switch one on")
    if len(config.ipam.node_mask_sizes) != 2:
        raise CiliumpyError("ipam.nodeMaskSizes wants two numbers: for IPv4 and for IPv6")
    if config.hubble.ring_bytes & (config.hubble.ring_bytes - 1) or config.hubble.ring_bytes < 4096:
        raise CiliumpyError("hubble.ringBytes wants a power of two, 4096 or more")
    for cidr in config.ipam.cluster_pod_cidrs:
        try:
            ipaddress.ip_network(cidr)
        except ValueError as error:
            raise CiliumpyError(f"ipam.clusterPodCIDRs: {error}") from None
    for version, wanted in ((4, config.network.ipv4), (6, config.network.ipv6)):
        if wanted and config.pool(version) is None:
            raise CiliumpyError(
                f"ipam.clusterPodCIDRs has no IPv{version} prefix", f"add one, or set network.ipv{version} to false"
            )
