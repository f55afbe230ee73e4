# SPDX-License-Identifier: Apache-2.0
"""A node as a CiliumNode object. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ciliumpy.tables.source import Node


def node_object(node: Node) -> dict[str, Any]:
    """Return the object that tells the others of this node."""
    metadata: dict[str, Any] = {"name": node.name}
    if node.labels:
        metadata["labels"] = dict(node.labels)
    addresses = [{"type": "InternalIP", "ip": ip} for ip in node.internal_ips]
    addresses += [{"type": "CiliumInternalIP", "ip": ip} for ip in node.router_ips]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNode",
        "metadata": metadata,
        "spec": {"addresses": addresses, "ipam": {"podCIDRs": list(node.pod_cidrs)}},
    }
