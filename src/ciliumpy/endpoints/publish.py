# SPDX-License-Identifier: Apache-2.0
"""Tells the other nodes of this node's endpoints: one CiliumEndpoint object each, in the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from ciliumpy.store.interface import Store, Transaction
    from ciliumpy.tables.endpoints import Endpoint

KIND = "CiliumEndpoint"
BATCH = 100  # compared under one lock: some 50 ms


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
            keys = sorted({*txn.names(KIND), *wanted})
        repairs = 0
        for start in range(0, len(keys), BATCH):  # everybody waits for who has the lock
            with self._store.transaction() as txn:
                repairs += sum(self._repair_in(txn, key, wanted.get(key)) for key in keys[start : start + BATCH])
        return repairs

    def _repair_in(self, txn: Transaction, key: tuple[str, str], wanted: Endpoint | None) -> bool:
        try:
            present = txn.get(KIND, key[1], key[0])
        except CiliumpyError:  # a file that is not ours to read
            present = None
        if wanted is None:
            return present is not None and self._is_ours(present.document) and txn.delete(KIND, key[1], key[0])
        document = endpoint_object(wanted, self._node, self._node_ip)
        if present is not None and present.document == document:
            return False
        txn.put(document)
        return True

    def _is_ours(self, document: Mapping[str, Any]) -> bool:
        status = document.get("status")
        networking = status.get("networking") if isinstance(status, dict) else None
        return isinstance(networking, dict) and networking.get("node") == self._node_ip
