# SPDX-License-Identifier: Apache-2.0
"""Hubble's peer.Peer: which nodes there are, told to who merges the flows of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.proto import peer_pb2
from ciliumpy.tables.source import NODES, Node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ciliumpy.state.database import Database

PORT = 4244  # where Hubble's servers listen; ours answer on their sockets only
MOST_BEHIND = 10_000  # deletions that are kept for a client who does not read


def handler(db: Database) -> grpc.GenericRpcHandler:
    """Return the service for a gRPC server of the database's loop."""

    async def notify(
        _: peer_pb2.NotifyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[peer_pb2.ChangeNotification]:
        try:
            async for change in changes(db):
                yield change
        except CiliumpyError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, error.message)

    return grpc.method_handlers_generic_handler(
        "peer.Peer",
        {
            "Notify": grpc.unary_stream_rpc_method_handler(
                notify,
                request_deserializer=peer_pb2.NotifyRequest.FromString,
                response_serializer=peer_pb2.ChangeNotification.SerializeToString,
            )
        },
    )


async def changes(db: Database) -> AsyncIterator[peer_pb2.ChangeNotification]:
    """Yield every node as added, then what changes, for ever. CiliumpyError for a client who does not read."""
    observer = db.table(NODES).observe("hubble-peers", limit=MOST_BEHIND)
    known: dict[str, str] = {}
    try:
        while True:
            for change in observer.take():
                name, address = full_name(change.row), address_of(change.row)
                if change.deleted:
                    if name in known:
                        del known[name]
                        yield _message(name, address, peer_pb2.PEER_DELETED)
                elif known.get(name) != address:
                    kind = peer_pb2.PEER_UPDATED if name in known else peer_pb2.PEER_ADDED
                    known[name] = address
                    yield _message(name, address, kind)
            if not observer.closed:
                await observer.wait()
    except RuntimeError as error:  # the table has given the observer up
        if not observer.closed:
            raise
        raise CiliumpyError("server stream send was blocked for too long") from error
    finally:
        observer.close()


def full_name(node: Node) -> str:
    """Return `cluster/node`; of the cluster `default` the node alone, as Hubble names peers."""
    return node.name if node.cluster in ("", "default") else f"{node.cluster}/{node.name}"


def address_of(node: Node) -> str:
    """Return host and port of the first address, or nothing for a node without one."""
    if not node.internal_ips:
        return ""
    first = node.internal_ips[0]
    return f"[{first}]:{PORT}" if ":" in first else f"{first}:{PORT}"


def _message(name: str, address: str, kind: peer_pb2.ChangeNotificationType) -> peer_pb2.ChangeNotification:
    return peer_pb2.ChangeNotification(name=name, address=address, type=kind)
