# SPDX-License-Identifier: Apache-2.0
"""The own node as it starts: its underlay, its part of the cluster's pools, its devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.datapath import devices, loader
from ciliumpy.endpoints.plug import Gateway
from ciliumpy.ipam import controller as ipam
from ciliumpy.ipam.allocate import Pool, router_address
from ciliumpy.nodes.objects import node_object, stored_labels
from ciliumpy.tables.source import Node

if TYPE_CHECKING:
    from ciliumpy.daemon.config import AgentConfig
    from ciliumpy.store.interface import Store
    from ciliumpy.tables.datapath import NodeAddress


class Own(NamedTuple):
    """What this node is as it starts. `addresses` are all that it has, its routers' included."""

    node: Node
    pools: dict[str, Pool]
    devices: devices.Devices
    addresses: tuple[NodeAddress, ...]
    gateway: Gateway


def start(config: AgentConfig, store: Store) -> Own:
    """Claim pod CIDRs, make the devices. Takes some 50 ms. CiliumpyError: what is missing."""
    network = config.network
    underlay = devices.underlay(
        network.device, network.mtu, tunnel_over=network.underlay, ipv4=network.ipv4, ipv6=network.ipv6
    )
    wanted = [pool for pool in (config.pool(4), config.pool(6)) if pool]
    labels = tuple(sorted({**stored_labels(store, config.name), **config.node.labels}.items()))

    def describe(cidrs: tuple[str, ...]) -> Node:
        routers = tuple(router_address(cidr) for cidr in cidrs)
        return Node(config.name, config.node.cluster, underlay.addresses, routers, cidrs, labels)

    cidrs = ipam.pod_cidrs(
        store,
        config.name,
        [ipam.PoolConfig(*pool) for pool in wanted],
        lambda cidrs: node_object(describe(cidrs)),
        ipam.Memory(config.state / "pod-cidrs.json"),
    )
    node = describe(cidrs)
    made = devices.prepare(underlay, node.router_ips, config.network.tunnel_port)
    gateway = Gateway(
        next((ip for ip in node.router_ips if ":" not in ip), ""),
        next((ip for ip in node.router_ips if ":" in ip), ""),
        underlay.pod_mtu,
    )
    pools = {"ipv6" if ":" in cidr else "ipv4": Pool(cidr) for cidr in cidrs}
    return Own(node, pools, made, devices.own_addresses(underlay.name), gateway)


def settings(config: AgentConfig, own: Own) -> loader.Settings:
    """Return what the programs are told."""
    conntrack = config.conntrack
    return loader.Settings(
        devices=own.devices,
        routers=own.node.router_ips,
        tunnel_port=config.network.tunnel_port,
        ipv4=config.network.ipv4,
        ipv6=config.network.ipv6,
        timeouts=loader.Timeouts(
            conntrack.timeout_tcp_syn, conntrack.timeout_tcp, conntrack.timeout_any, conntrack.timeout_tcp_fin
        ),
        drop_limit=loader.DropLimit(config.hubble.drop_events_per_second, config.hubble.drop_event_burst),
        map_sizes=config.map_sizes(),
        ring_bytes=config.hubble.ring_bytes,
        objects=config.objects or loader.OBJECTS,
        attach=config.network.attach,
        host_firewall=config.policy.host_firewall,
    )
