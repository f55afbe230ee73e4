# SPDX-License-Identifier: Apache-2.0
"""Asks the Hubble servers of agents; imports gRPC when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.client.target import Target
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from ciliumpy.client.observer import Server
    from ciliumpy.proto.observer_pb2 import GetNamespacesResponse, Node, ServerStatusResponse


def server(of: Target) -> Server:
    from ciliumpy.client.observer import Server

    return Server(of.node, str(of.hubble_socket))


def status(of: Target) -> ServerStatusResponse:
    """Return the server's status, as hubble asks for it: only of one that says it serves."""
    from ciliumpy.client.observer import ask
    from ciliumpy.proto import health_pb2, observer_pb2

    health = ask(
        server(of),
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest(service="hubble.server.Observer"),
        health_pb2.HealthCheckResponse,
    )
    if health.status != health_pb2.HealthCheckResponse.SERVING:
        raise CiliumpyError("the server is not healthy", "`ciliumpy status` tells how the agent is")
    request = observer_pb2.ServerStatusRequest()
    return ask(server(of), "/observer.Observer/ServerStatus", request, observer_pb2.ServerStatusResponse)


def nodes(of: Target) -> list[Node]:
    from ciliumpy.client.observer import ask
    from ciliumpy.proto import observer_pb2

    request, answer = observer_pb2.GetNodesRequest(), observer_pb2.GetNodesResponse
    return list(ask(server(of), "/observer.Observer/GetNodes", request, answer).nodes)


def namespaces(of: Target) -> GetNamespacesResponse:
    from ciliumpy.client.observer import ask
    from ciliumpy.proto import observer_pb2

    request, answer = observer_pb2.GetNamespacesRequest(), observer_pb2.GetNamespacesResponse
    return ask(server(of), "/observer.Observer/GetNamespaces", request, answer)
