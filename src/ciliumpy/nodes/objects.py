# SPDX-License-Identifier: Apache-2.0
"""A node as a CiliumNode object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ciliumpy.store.interface import Store
    from ciliumpy.tables.source import Node

KIND = "CiliumNode"


def node_object(node: Node) -> dict[str, Any]:
    """Return the object that tells the others of this node."""
    metadata: dict[str, Any] = {"name": node.name}
    if node.labels:
        metadata["labels"] = dict(node.labels)
    addresses = [{"type": "InternalIP", "ip": ip} for ip in node.internal_ips]
    addresses += [{"type": "CiliumInternalIP", "ip": ip} for ip in node.router_ips]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": KIND,
        "metadata": metadata,
        "spec": {"addresses": addresses, "ipam": {"podCIDRs": list(node.pod_cidrs)}},
    }


def labels_in(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of a node's object; what is none is left out."""
    metadata = document.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return {k: v for k, v in labels.items() if isinstance(v, str)} if isinstance(labels, dict) else {}


def stored_labels(store: Store, name: str) -> dict[str, str]:
    """Return the labels that somebody gave a node in the store: none if it has no object, or nobody can tell."""
    try:
        with store.transaction() as txn:
            stored = txn.get(KIND, name)
    except CiliumpyError:
        return {}
    return labels_in(stored.document) if stored is not None else {}
