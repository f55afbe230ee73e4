# SPDX-License-Identifier: Apache-2.0
"""Hubble's API on a unix socket: observer.Observer and grpc.health.v1, for `observe` and every hubble client."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from ciliumpy import __version__
from ciliumpy.flows.fieldmask import FieldMask, masked
from ciliumpy.flows.filters import FlowMatcher
from ciliumpy.flows.query import Query, Selection
from ciliumpy.flows.to_flow import API_VERSION, FlowMaker
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.proto import health_pb2, observer_pb2, relay_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from ciliumpy.flows.history import History
    from ciliumpy.kit.clock import Clock

    Context = grpc.aio.ServicerContext[Any, Any]

SERVICE = "hubble.server.Observer"
EVERYTHING = (1 << 64) - 1
HOUR_NS = 3_600_000_000_000


class ObserverServer:
    """Serves one node's history. `rate` gives the flows a second over the last minute; `beside` are other services."""

    def __init__(
        self,
        history: History,
        node_name: str,
        clock: Clock,
        *,
        cluster: str = "default",
        node_labels: tuple[str, ...] = (),
        rate: Callable[[], float] = lambda: 0.0,
        beside: Sequence[grpc.GenericRpcHandler] = (),
    ) -> None:
        self._history = history
        self._node_name = f"{cluster}/{node_name}"
        self._cluster = cluster
        self._node_labels = node_labels
        self._clock = clock
        self._rate = rate
        self._beside = tuple(beside)
        self._started_ns = clock.monotonic_ns()
        self._server: grpc.aio.Server | None = None
        self._path = ""

    async def start(self, path: str) -> None:
        """Listen on the socket `path`, for root only. CiliumpyError if that cannot be."""
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((self._observer(), self._health(), *self._beside))
        _remove(path)  # of a server that was killed
        before = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix:{path}")
            await server.start()
        except RuntimeError as error:
            raise CiliumpyError(f"cannot listen on {path}: {error}", "is the folder there, and writable?") from error
        finally:
            os.umask(before)
        self._server, self._path = server, path

    async def stop(self, grace_s: float = 0.2) -> None:
        """End every call and stop listening."""
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None
            _remove(self._path)

    def _observer(self) -> grpc.GenericRpcHandler:
        # The calls that are not here (GetAgentEvents, GetDebugEvents) are answered UNIMPLEMENTED by gRPC itself.
        return grpc.method_handlers_generic_handler(
            "observer.Observer",
            {
                "GetFlows": grpc.unary_stream_rpc_method_handler(
                    _stream(self.get_flows),
                    request_deserializer=observer_pb2.GetFlowsRequest.FromString,
                    response_serializer=observer_pb2.GetFlowsResponse.SerializeToString,
                ),
                "ServerStatus": grpc.unary_unary_rpc_method_handler(
                    _unary(self.server_status),
                    request_deserializer=observer_pb2.ServerStatusRequest.FromString,
                    response_serializer=observer_pb2.ServerStatusResponse.SerializeToString,
                ),
                "GetNodes": grpc.unary_unary_rpc_method_handler(
                    _unary(self.get_nodes),
                    request_deserializer=observer_pb2.GetNodesRequest.FromString,
                    response_serializer=observer_pb2.GetNodesResponse.SerializeToString,
                ),
                "GetNamespaces": grpc.unary_unary_rpc_method_handler(
                    _unary(self.get_namespaces),
                    request_deserializer=observer_pb2.GetNamespacesRequest.FromString,
                    response_serializer=observer_pb2.GetNamespacesResponse.SerializeToString,
                ),
            },
        )

    def _health(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            "grpc.health.v1.Health",
            {
                "Check": grpc.unary_unary_rpc_method_handler(
                    _health_check,
                    request_deserializer=health_pb2.HealthCheckRequest.FromString,
                    response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
                ),
                "Watch": grpc.unary_stream_rpc_method_handler(
                    _health_watch,
                    request_deserializer=health_pb2.HealthCheckRequest.FromString,
                    response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
                ),
            },
        )

    async def get_flows(self, request: observer_pb2.GetFlowsRequest) -> AsyncIterator[observer_pb2.GetFlowsResponse]:
        """Yield what the request asks for. CiliumpyError if it asks for something that cannot be."""
        mask = FieldMask(request.field_mask.paths) if request.field_mask.paths else None
        matcher = FlowMatcher(
            request.whitelist, request.blacklist, self._history.names, self._node_name, self._node_labels
        )
        query = Query(
            number=0 if request.number == EVERYTHING and not request.follow else request.number,
            first=request.first,
            follow=request.follow,
            since=_nanoseconds(request.since) if request.HasField("since") else None,
            until=_nanoseconds(request.until) if request.HasField("until") else None,
        )
        selection = Selection(self._history, matcher, query, self._clock)
        maker = FlowMaker(self._history.names, self._node_name, self._node_labels)
        async for rows in selection.rows():
            for response in maker.responses(rows):
                yield masked(mask, response) if mask is not None else response

    async def server_status(self, _: observer_pb2.ServerStatusRequest) -> observer_pb2.ServerStatusResponse:
        return observer_pb2.ServerStatusResponse(
            num_flows=len(self._history),
            max_flows=self._history.capacity,
            seen_flows=self._history.end,
            uptime_ns=self._uptime_ns(),
            version=f"ciliumpy v{__version__}",
            flows_rate=self._rate(),
        )

    async def get_nodes(self, _: observer_pb2.GetNodesRequest) -> observer_pb2.GetNodesResponse:
        return observer_pb2.GetNodesResponse(
            nodes=[
                observer_pb2.Node(
                    name=self._node_name,
                    version=f"ciliumpy v{__version__}",
                    address=f"unix://{self._path}",
                    state=relay_pb2.NODE_CONNECTED,
                    uptime_ns=self._uptime_ns(),
                    num_flows=len(self._history),
                    max_flows=self._history.capacity,
                    seen_flows=self._history.end,
                )
            ]
        )

    async def get_namespaces(self, _: observer_pb2.GetNamespacesRequest) -> observer_pb2.GetNamespacesResponse:
        parties = self._history.parties(since_ns=self._clock.now_ns() - HOUR_NS)
        found = {(party.cluster or self._cluster, party.namespace) for party in parties if party.namespace}
        return observer_pb2.GetNamespacesResponse(
            namespaces=[observer_pb2.Namespace(cluster=cluster, namespace=name) for cluster, name in sorted(found)]
        )

    def _uptime_ns(self) -> int:
        return self._clock.monotonic_ns() - self._started_ns


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        Path(path).unlink()


def _nanoseconds(stamp: Timestamp) -> int:
    return stamp.ToNanoseconds()


HEADERS = (("hubble-server-version", API_VERSION),)


def _unary(function: Callable[[Any], Awaitable[Any]]) -> Callable[[Any, Context], Awaitable[Any]]:
    async def call(request: Any, context: Context) -> Any:
        await context.send_initial_metadata(HEADERS)
        try:
            return await function(request)
        except CiliumpyError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)

    return call


def _stream(function: Callable[[Any], AsyncIterator[Any]]) -> Callable[[Any, Context], AsyncIterator[Any]]:
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        await context.send_initial_metadata(HEADERS)
        try:
            async for response in function(request):
                yield response
        except CiliumpyError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)

    return call


async def _health_check(request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
    if request.service not in ("", SERVICE):
        await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service!r}")
    return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


async def _health_watch(
    request: health_pb2.HealthCheckRequest, _: Context
) -> AsyncIterator[health_pb2.HealthCheckResponse]:
    answer = health_pb2.HealthCheckResponse
    known = request.service in ("", SERVICE)
    yield answer(status=answer.SERVING if known else answer.SERVICE_UNKNOWN)
    await asyncio.Event().wait()  # it stays so until the server or the client ends the call
