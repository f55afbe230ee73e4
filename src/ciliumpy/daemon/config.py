# SPDX-License-Identifier: Apache-2.0
"""The agent's configuration: one struct a part. Keys in YAML are camelCase; `state.config` fills them."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.identity import FIRST_FIXED, LAST_FIXED, Reserved
from ciliumpy.model.labels import LabelFilter, pattern
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.verdicts import Enforcement
from ciliumpy.state import config as settings
from ciliumpy.state.schema import about

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Entries = Annotated[int, msgspec.Meta(ge=16, le=1 << 24)]

LAB_CONNTRACK, HOST_CONNTRACK = 65536, 524288
LEAST_UNANSWERED = 1024
LAB_IPCACHE, HOST_IPCACHE = 65536, 512000


class Part(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A part of the configuration."""


class NodeConfig(Part, frozen=True):
    name: Annotated[str, about("The node's name; empty: the machine's host name.")] = ""
    cluster: Annotated[str, about("The cluster's name; it is a label of every identity.")] = "default"
    lab: Annotated[str, about("The lab the node is of; empty: none. `ciliumpy lab` sets it.")] = ""
    labels: Annotated[dict[str, str], about("Labels of the node's CiliumNode object.")] = {}


class StoreConfig(Part, frozen=True):
    path: Annotated[str, about("The folder that holds the cluster's objects.")] = "/etc/ciliumpy/store"


class PathsConfig(Part, frozen=True):
    run: Annotated[str, about("Folder of the sockets and of `agent.json`, by which commands find the agent.")] = (
        "/run/ciliumpy"
    )
    state: Annotated[str, about("Folder of what outlives a restart: endpoints, last good objects.")] = (
        "/var/lib/ciliumpy"
    )
    bpffs: Annotated[str, about("Folder of a BPF file system in which maps and links are pinned.")] = (
        "/sys/fs/bpf/ciliumpy"
    )
    cgroup: Annotated[str, about("The node's cgroup; empty: found from the mounts.")] = ""
    objects: Annotated[
        str, about("Folder of the BPF objects that are loaded, of this version; empty: those of the package.")
    ] = ""


class NetworkConfig(Part, frozen=True):
    device: Annotated[str, about("The device to the other nodes and the world.")] = "eth0"
    tunnel: Annotated[Literal["vxlan"], about("How packets for pods of other nodes are carried.")] = "vxlan"
    tunnel_port: Annotated[Port, about("UDP port of the tunnel, the same on all nodes.")] = 8472
    mtu: Annotated[
        int, msgspec.Meta(ge=0, le=65535), about("MTU of the underlay; 0: the device's. Pods get less.", unit="bytes")
    ] = 0
    underlay: Annotated[
        Literal["auto", "ipv4", "ipv6"],
        about("What the tunnel runs over, alike on all nodes; auto: IPv4, if pods and the device have it."),
    ] = "auto"
    ipv4: Annotated[bool, about("Whether pods have IPv4 addresses.")] = True
    ipv6: Annotated[bool, about("Whether pods have IPv6 addresses.")] = True
    attach: Annotated[
        Literal["auto", "tcx", "clsact"],
        about("How programs are put on devices; auto: tcx links, or clsact filters where the kernel has none."),
    ] = "auto"


class IpamConfig(Part, frozen=True):
    cluster_pod_cidrs: Annotated[
        tuple[str, ...], about("The cluster's pod prefixes, one a family; each node takes a part.")
    ] = msgspec.field(name="clusterPodCIDRs", default=("10.244.0.0/16", "fd00:10:244::/48"))
    node_mask_sizes: Annotated[
        tuple[int, ...], about("Length of a node's part of these prefixes: IPv4, IPv6.", unit="bits")
    ] = (24, 64)


class PolicyConfig(Part, frozen=True):
    enforcement: Annotated[
        Literal["default", "always", "never"],
        about("Which endpoints are closed: those that a policy selects, all, or none."),
    ] = "default"
    audit_mode: Annotated[
        bool,
        about("Whether what policy denies passes and is told of (AUDIT); `endpoint config` says otherwise of one."),
    ] = False
    host_firewall: Annotated[bool, about("Whether policies for nodes hold for this one.")] = False
    allow_localhost: Annotated[
        Literal["always", "policy"],
        about("When a node reaches its own pods: always, unless a rule denies it, or where a policy allows it."),
    ] = "always"
    node_selector_labels: Annotated[
        bool, about("Whether policies may name other nodes by their labels (fromNodes, toNodes).")
    ] = False
    cluster_network_policy: Annotated[
        bool, about("Whether ClusterNetworkPolicies have effect, with their tiers before and behind all others.")
    ] = False
    cidr_match_mode: Annotated[
        tuple[Literal["nodes", "pods"], ...],
        about(
            "Whom CIDRs match besides the world: nodes, this one and others, by their addresses; pods, as Kubernetes"
            " has it, which then get more identities."
        ),
    ] = ()
    icmp_rules: Annotated[bool, about("Whether policies may name ICMP messages.")] = True
    l7_proxy: Annotated[bool, about("Whether policies may have rules for proxies (http, dns).")] = True


class IdentityConfig(Part, frozen=True):
    labels: Annotated[
        tuple[str, ...],
        about(
            "Which labels make an identity, besides the default: `[source:][!]expression` each, matched at the"
            " beginning of a key; ! drops. With one that keeps, what none matches is dropped. On all nodes alike."
        ),
    ] = ()
    fixed: Annotated[
        dict[str, str],
        about(
            "Numbers from 128 to 255 with a name each: a pod with the label io.cilium.fixed-identity=NAME has that"
            " identity, and the label reserved:NAME. On all nodes alike."
        ),
    ] = {}
    change_grace_period: Annotated[
        int,
        msgspec.Meta(ge=0, le=60_000),
        about(
            "How long an identity is known before a running pod with new labels gets it: other nodes hear of it.",
            unit="milliseconds",
        ),
    ] = 1000
    gc_interval: Annotated[Positive, about("How often identities that nobody uses are looked for.", unit="seconds")] = (
        msgspec.field(name="gcInterval", default=900)
    )
    heartbeat_timeout: Annotated[
        Positive,
        about("How long nobody must have used an identity until its object is deleted.", unit="seconds"),
    ] = 1800


class HubbleConfig(Part, frozen=True):
    flows: Annotated[Positive, about("How many flows the history keeps.", unit="flows")] = 65536
    ring_bytes: Annotated[Positive, about("Size of each CPU's event ring; a power of two.", unit="bytes")] = 1 << 20
    # A ring of 1 MiB holds 8,192 records and is read 20 to 50 times a second: a flood of drops leaves room for others.
    drop_events_per_second: Annotated[
        int,
        msgspec.Meta(ge=0, le=10_000_000),
        about(
            "How many drops, and ICMP messages of no flow, each CPU tells of; the rest is counted. 0: all.",
            unit="events/s",
        ),
    ] = 10_000
    drop_event_burst: Annotated[
        int, msgspec.Meta(ge=1, le=1 << 24), about("How many of them may come at once.", unit="events")
    ] = 2048


class ConntrackConfig(Part, frozen=True):
    entries: Annotated[
        int,
        msgspec.Meta(ge=0, le=1 << 24),
        about("Rows of each conntrack map; 0: 65,536 in a lab, 524,288 on a host.", unit="rows"),
    ] = 0
    unanswered: Annotated[
        int,
        msgspec.Meta(ge=0, le=1 << 24),
        about("Rows of each map of flows that nobody has answered yet; 0: an eighth of entries.", unit="rows"),
    ] = 0
    timeout_tcp_syn: Annotated[Positive, about("Life of a half-open TCP connection.", unit="seconds")] = 60
    timeout_tcp: Annotated[Positive, about("Life of an idle TCP connection.", unit="seconds")] = 8000
    timeout_any: Annotated[Positive, about("Life of an idle flow that is not TCP.", unit="seconds")] = 60
    timeout_tcp_fin: Annotated[Positive, about("Life of a TCP connection that both ends close.", unit="seconds")] = 10


class MapsConfig(Part, frozen=True):
    policy_classes: Annotated[Entries, about("Port classes of all policy sets.", unit="rows")] = 16384
    policy_ports: Annotated[Entries, about("Single ports of all policy sets.", unit="rows")] = 65536
    policy_sets: Annotated[Entries, about("Policy sets: one an identity of this node.", unit="rows")] = 16384
    policy_ranges: Annotated[Entries, about("Port ranges of all policy sets, by protocol.", unit="rows")] = 16384
    identities: Annotated[
        Entries, about("Identities: 65,280 of the cluster, and the node's own of prefixes and nodes.", unit="rows")
    ] = 131072
    ipcache: Annotated[
        int,
        msgspec.Meta(ge=0, le=1 << 24),
        about("Addresses, and prefixes, of the cluster; 0: 65,536 in a lab, 512,000 on a host.", unit="rows"),
    ] = 0
    fragments: Annotated[
        int, msgspec.Meta(ge=256, le=65536), about("Datagrams in fragments followed at once, a family.", unit="rows")
    ] = 8192


class LogConfig(Part, frozen=True):
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        about("The least important lines that are logged. `ciliumpy config set` changes it at run time."),
    ] = "info"


class AgentConfig(Part, frozen=True):
    """All parts. What is not set has its default; what depends on lab or host is resolved by the properties."""

    node: NodeConfig = NodeConfig()
    store: StoreConfig = StoreConfig()
    paths: PathsConfig = PathsConfig()
    network: NetworkConfig = NetworkConfig()
    ipam: IpamConfig = IpamConfig()
    policy: PolicyConfig = PolicyConfig()
    identity: IdentityConfig = IdentityConfig()
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
    def objects(self) -> Path | None:
        return Path(self.paths.objects) if self.paths.objects else None

    @property
    def bpffs(self) -> Path:
        return Path(self.paths.bpffs)

    @property
    def policy_options(self) -> PolicyOptions:
        """What the language, the engine and the datapath are to know."""
        return PolicyOptions(
            cluster=self.node.cluster,
            enforcement=Enforcement(self.policy.enforcement),
            ipv4=self.network.ipv4,
            ipv6=self.network.ipv6,
            host_firewall=self.policy.host_firewall,
            allow_localhost=self.policy.allow_localhost,
            node_selector_labels=self.policy.node_selector_labels,
            cluster_network_policy=self.policy.cluster_network_policy,
            cidr_match_mode=self.policy.cidr_match_mode,
            icmp_rules=self.policy.icmp_rules,
            l7_proxy=self.policy.l7_proxy,
            audit_mode=self.policy.audit_mode,
        )

    @property
    def label_filter(self) -> LabelFilter:
        return LabelFilter(self.identity.labels)

    @property
    def fixed_identities(self) -> dict[int, str]:
        return {int(number): name for number, name in self.identity.fixed.items()}

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
        unanswered = self.conntrack.unanswered or max(LEAST_UNANSWERED, conntrack // 8)
        ipcache = self.maps.ipcache or (LAB_IPCACHE if lab else HOST_IPCACHE)
        return {
            "cp_ct4_v1": conntrack,
            "cp_ct6_v1": conntrack,
            "cp_ctu4_v1": unanswered,
            "cp_ctu6_v1": unanswered,
            "cp_iphost_v1": ipcache,
            "cp_ipcidr_v1": ipcache,
            "cp_vector_v1": self.maps.identities,
            "cp_set_v2": self.maps.policy_sets,
            "cp_port_v1": self.maps.policy_ports,
            "cp_range_v1": self.maps.policy_ranges,
            "cp_class_v2": self.maps.policy_classes,
            "cp_frag4_v1": self.maps.fragments,
            "cp_frag6_v1": self.maps.fragments,
        }


Loaded = settings.Config[AgentConfig]


def effective(config: AgentConfig) -> dict[str, str | int]:
    """Return what is in force of the settings whose value says "as it is best here", and that follows from others."""
    sizes = config.map_sizes()
    return {
        "node.name": config.name,
        "conntrack.entries": sizes["cp_ct4_v1"],
        "conntrack.unanswered": sizes["cp_ctu4_v1"],
        "maps.ipcache": sizes["cp_iphost_v1"],
    }


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
    _check_identity(config.identity)
    for version, wanted in ((4, config.network.ipv4), (6, config.network.ipv6)):
        if wanted and config.pool(version) is None:
            raise CiliumpyError(
                f"ipam.clusterPodCIDRs has no IPv{version} prefix", f"add one, or set network.ipv{version} to false"
            )


def _check_identity(config: IdentityConfig) -> None:
    for entry in config.labels:
        try:
            pattern(entry)
        except ValueError as error:
            raise CiliumpyError(f"identity.labels: {error}") from None
    for number, name in config.fixed.items():
        if not (number.isascii() and number.isdecimal() and FIRST_FIXED <= int(number) <= LAST_FIXED):
            raise CiliumpyError(f"identity.fixed: {number!r} is no number from {FIRST_FIXED} to {LAST_FIXED}")
        if not re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", name) or name in {r.label for r in Reserved}:
            raise CiliumpyError(
                f"identity.fixed: {number} cannot be called {name!r}", "use a label's value, not a reserved name"
            )
    if len(set(config.fixed.values())) < len(config.fixed):
        raise CiliumpyError("identity.fixed: two numbers have one name")
