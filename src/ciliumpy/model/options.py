# SPDX-License-Identifier: Apache-2.0
"""The agent's options that change verdicts, or what a policy may say, each with its name in Cilium's ConfigMap."""

from __future__ import annotations

from typing import Literal

import msgspec

from ciliumpy.model.verdicts import Enforcement


class PolicyOptions(msgspec.Struct, frozen=True):
    """Defaults are Cilium's."""

    cluster: str = "default"  # cluster-name
    enforcement: Enforcement = Enforcement.DEFAULT  # enable-policy
    ipv4: bool = True  # enable-ipv4
    ipv6: bool = True  # enable-ipv6; with both, outside addresses are world-ipv4 and world-ipv6, else world
    host_firewall: bool = False  # enable-host-firewall
    allow_localhost: Literal["always", "policy"] = "always"  # allow-localhost
    node_selector_labels: bool = False  # enable-node-selector-labels
    cluster_network_policy: bool = False  # enable-k8s-cluster-network-policy
    icmp_rules: bool = True  # enable-icmp-rules
    l7_proxy: bool = True  # enable-l7-proxy
    cidr_match_mode: tuple[
        Literal["nodes", "pods"], ...
    ] = ()  # policy-cidr-match-mode: whom CIDRs match besides the world
    audit_mode: bool = False  # policy-audit-mode
