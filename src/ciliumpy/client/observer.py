# SPDX-License-Identifier: Apache-2.0
"""Asks Hubble servers for flows, several at once, merged by time.

A server that does not answer is told to the caller and left out; the others go on.
"""

from __future__ import annotations

import heapq
import itertools
import os
import queue
import socket
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # before grpc is loaded: it would write on our stderr

import grpc

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.proto import observer_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from google.protobuf.message import Message

DIAL_S = 5.0
REQUEST_S = 12.0
HOLD_S = 0.1  # how long a flow waits for older ones of other nodes, while following
EVERYTHING = (1 << 64) - 1
GET_FLOWS = "/observer.Observer/GetFlows"
SERVER_STATUS = "/observer.Observer/ServerStatus"

Response = observer_pb2.GetFlowsResponse
M = TypeVar("M", bound="Message")


class Server(NamedTuple):
    """A Hubble server: the node's name and its socket."""

    name: str
    socket_path: str


def get_flows(
    servers: Sequence[Server], request: observer_pb2.GetFlowsRequest, failed: Callable[[str, str], None]
) -> Iterator[Response]:
    """Yield the responses of all servers, oldest first; `number` of the request counts over all of them together.

    `failed` is called with the name of a server and the reason, when it does not answer or breaks off. Does not end
    when the request follows.
    """
    streams = [_stream(server, request, failed) for server in servers]
    if request.follow:
        return _live(streams)
    merged = streams[0] if len(streams) == 1 else heapq.merge(*streams, key=_time)
    if len(servers) == 1 or request.number in (0, EVERYTHING):
        return merged
    if request.first:
        return itertools.islice(merged, request.number)
    return iter(deque(merged, maxlen=request.number))


class Feed:
    """The responses of one server, until it ends, breaks off (CiliumpyError) or is closed by another thread."""

    def __init__(self, server: Server, request: observer_pb2.GetFlowsRequest) -> None:
        self.name = server.name
        self._server = server
        self._request = request
        self._channel = grpc.insecure_channel(f"unix:{server.socket_path}")
        self._call: Any = None
        self._closed = False

    def __iter__(self) -> Iterator[Response]:
        try:
            _probe(self._server)
            self._call = self._channel.unary_stream(
                GET_FLOWS,
                request_serializer=observer_pb2.GetFlowsRequest.SerializeToString,
                response_deserializer=Response.FromString,
            )(self._request)
            if not self._closed:
                yield from self._call
        except OSError as error:
            raise CiliumpyError(_explain(error, self._server)) from error
        except grpc.RpcError as error:
            if not self._closed:
                raise CiliumpyError(error.details() or str(error.code())) from error

    def close(self) -> None:
        self._closed = True
        if self._call is not None:
            self._call.cancel()
        self._channel.close()


def _probe(server: Server) -> None:
    """Raise OSError where nobody listens: gRPC would go on trying for seconds."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(DIAL_S)
        probe.connect(server.socket_path)


def ask(server: Server, method: str, request: Message, answer: type[M]) -> M:
    """Return what a method (`/observer.Observer/GetNodes`) answers; CiliumpyError with the reason if it does not."""
    with _channel(server) as channel:
        call = channel.unary_unary(
            method, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        try:
            found: M = call(request, timeout=REQUEST_S)
        except grpc.RpcError as error:
            raise CiliumpyError(error.details() or str(error.code())) from error
        return found


def follow(server: Server, method: str, request: Message, answer: type[M]) -> Iterator[M]:
    """Yield what a method streams until the server ends it; CiliumpyError with the reason if it breaks off."""
    with _channel(server) as channel:
        call = channel.unary_stream(
            method, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        try:
            yield from call(request)
        except grpc.RpcError as error:
            raise CiliumpyError(error.details() or str(error.code())) from error


@contextmanager
def _channel(server: Server) -> Iterator[grpc.Channel]:
    try:
        _probe(server)
    except OSError as error:
        raise CiliumpyError(_explain(error, server)) from error
    with grpc.insecure_channel(f"unix:{server.socket_path}") as channel:
        yield channel


def _stream(
    server: Server, request: observer_pb2.GetFlowsRequest, failed: Callable[[str, str], None]
) -> Iterator[Response]:
    try:
        _probe(server)
    except OSError as error:
        failed(server.name, _explain(error, server))
        return
    with grpc.insecure_channel(f"unix:{server.socket_path}") as channel:
        try:
            _await_answer(channel)
            call: Iterable[Response] = channel.unary_stream(
                GET_FLOWS,
                request_serializer=observer_pb2.GetFlowsRequest.SerializeToString,
                response_deserializer=Response.FromString,
            )(request)
            yield from call
        except TimeoutError:
            failed(server.name, f"the agent did not answer within {DIAL_S:g} s")
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                failed(server.name, error.details() or str(error.code()))


def _await_answer(channel: grpc.Channel) -> None:
    """Return when the server has answered anything at all; TimeoutError after DIAL_S.

    A channel whose readiness was asked for takes 200 ms to close: gRPC polls it in a thread of its own.
    """
    status = channel.unary_unary(
        SERVER_STATUS,
        request_serializer=observer_pb2.ServerStatusRequest.SerializeToString,
        response_deserializer=observer_pb2.ServerStatusResponse.FromString,
    )
    try:
        status(observer_pb2.ServerStatusRequest(), timeout=DIAL_S)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise TimeoutError from error
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            raise


def _explain(error: OSError, server: Server) -> str:
    if isinstance(error, PermissionError):
        return f"no permission for {server.socket_path}: run it as root (sudo)"
    return "the agent is not running" if isinstance(error, FileNotFoundError | ConnectionError) else str(error)


def _time(response: Response) -> tuple[int, int]:
    return response.time.seconds, response.time.nanos


def _live(streams: Sequence[Iterator[Response]]) -> Iterator[Response]:
    """Merge streams that do not end: what came waits HOLD_S for older ones from elsewhere."""
    if len(streams) == 1:
        yield from streams[0]
        return
    inbox: queue.SimpleQueue[Response | None] = queue.SimpleQueue()

    def read(stream: Iterator[Response]) -> None:
        for response in stream:
            inbox.put(response)
        inbox.put(None)

    for stream in streams:
        threading.Thread(target=read, args=(stream,), daemon=True).start()
    running = len(streams)
    held: list[tuple[tuple[int, int], int, float, Any]] = []
    order = itertools.count()
    while running or held:
        try:
            came = inbox.get(timeout=HOLD_S / 4 if held else None)
            if came is None:
                running -= 1
            else:
                heapq.heappush(held, (_time(came), next(order), time.monotonic(), came))
        except queue.Empty:
            pass
        while held and (not running or time.monotonic() - held[0][2] >= HOLD_S):
            yield heapq.heappop(held)[3]
