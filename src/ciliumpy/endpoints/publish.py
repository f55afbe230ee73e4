# SPDX-License-Identifier: Apache-2.0
"""Tells the other nodes of this node's endpoints: one CiliumEndpoint object each, in the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from ciliumpy.store.interface import Store, Transaction
    from ciliumpy.tables.endpoints import Endpoint

KIND = "CiliumEndpoint"


def endpoint_object(endpoint: Endpoint, node: str, node_ip: str) -> dict[str, Any]:
    """Return an endpoint as a CiliumEndpoint."""
    addressing = {key: value for key, value in (("ipv4", endpoint.ipv4), ("ipv6", endpoint.ipv6)) if value}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": KIND,
        "metadata": {"name": endpoint.pod, "namespace": endpoint.namespace},
        "status": {
            "id": endpoint.id,
            "external-identifiers": {"container-id": endpoint.container_id, "pod-name": _pod(endpoint)},
            "identity": {"id": endpoint.identity, "labels": list(endpoint.labels)},
            "networking": {"addressing": [addressing], "node": node_ip, "nodeName": node},
            "state": "ready",
        },
    }


def _pod(endpoint: Endpoint) -> str:
    return f"{endpoint.namespace}/{endpoint.pod}"


class PublishTarget:
    """A reconciler's target: ENDPOINTS of this node into the store. Every call takes the store's lock in a thread."""

    def __init__(self, store: Store, node: str, node_ip: str) -> None:
        self._store = store
        self._node = node
        self._node_ip = node_ip

    async def update(self, rows: Sequence[Endpoint]) -> Mapping[Hashable, str]:
        await asyncio.to_thread(self._put, [row for row in rows if row.identity and row.pod])
        return {}

    async def delete(self, rows: Sequence[Endpoint]) -> Mapping[Hashable, str]:
        await asyncio.to_thread(self._delete, rows)
        return {}

    async def prune(self, rows: Sequence[Endpoint]) -> int:
        return await asyncio.to_thread(self._repair, rows)

    def _put(self, rows: Sequence[Endpoint]) -> None:
        if rows:
            with self._store.transaction() as txn:
                for row in rows:
                    txn.put(endpoint_object(row, self._node, self._node_ip))

    def _delete(self, rows: Sequence[Endpoint]) -> None:
        with self._store.transaction() as txn:
            for row in rows:
                present = txn.get(KIND, row.pod, row.namespace) if row.pod else None
                # A pod of that name may have come to another node, or anew to this one.
                if present and self._is_ours(present.document) and present.document["status"].get("id") == row.id:
                    txn.delete(KIND, row.pod, row.namespace)

    def _repair(self, rows: Sequence[Endpoint]) -> int:
        wanted = {(row.namespace, row.pod): row for row in rows if row.identity and row.pod}
        with self._store.transaction() as txn:
            return self._repair_in(txn, wanted)

    def _repair_in(self, txn: Transaction, wanted: Mapping[tuple[str, str], Endpoint]) -> int:
        repairs = 0
        present = {(stored.key.namespace, stored.key.name): stored for stored in txn.list(KIND)}
        for key, stored in present.items():
            if key not in wanted and self._is_ours(stored.document):
                repairs += txn.delete(KIND, key[1], key[0])
        for key, row in wanted.items():
            document = endpoint_object(row, self._node, self._node_ip)
            if key not in present or present[key].document != document:
                txn.put(document)
                repairs += 1
        return repairs

    def _is_ours(self, document: Mapping[str, Any]) -> bool:
        status = document.get("status")
        networking = status.get("networking") if isinstance(status, dict) else None
        return isinstance(networking, dict) and networking.get("node") == self._node_ip
