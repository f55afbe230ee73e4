# SPDX-License-Identifier: Apache-2.0
"""The built-in echo server: HTTP in, `200` with the pod's name out; anything else gets one line with the name.

It serves TCP and UDP ports, IPv4 and IPv6, in one thread. What comes in is hostile: a client that sends without reading
is not answered beyond a bound, one that stays silent is dropped after a while.
"""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")
_LONGEST_HEAD = 65536
_MOST_UNSENT = 262_144
_MOST_CONNECTIONS = 1000
_SILENCE_S = 3600.0
_CHUNK = 65536


class Port(NamedTuple):
    protocol: str  # TCP, UDP
    number: int


class EchoServer:
    """Listens on construction; `run` serves until the process ends. `name` is the answer."""

    def __init__(self, name: str, ports: Sequence[Port]) -> None:
        self._line = name.encode() + b"\n"
        self._selector = selectors.DefaultSelector()
        self._connections: set[_Connection] = set()
        for port in ports:
            listener = _listen(port)
            accept = self._answer_datagram if port.protocol == "UDP" else self._accept
            self._selector.register(listener, selectors.EVENT_READ, accept)

    def run(self) -> None:
        while True:
            for key, events in self._selector.select(timeout=60.0):
                if isinstance(key.data, _Connection):
                    self._serve(key.data, events)
                else:
                    key.data(key.fileobj)
            self._drop_silent()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            accepted, _ = listener.accept()
            accepted.setblocking(False)
            if len(self._connections) >= _MOST_CONNECTIONS:
                accepted.close()
                return
            connection = _Connection(accepted, self._line)
            self._connections.add(connection)
            self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _answer_datagram(self, listener: socket.socket) -> None:
        with suppress(OSError):
            _, sender = listener.recvfrom(_CHUNK)
            listener.sendto(self._line, sender)

    def _serve(self, connection: _Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                connection.receive()
            connection.send()
        except OSError:
            connection.done = True
            connection.unsent.clear()
        wanted = 0 if connection.done or len(connection.unsent) > _MOST_UNSENT else selectors.EVENT_READ
        wanted |= selectors.EVENT_WRITE if connection.unsent else 0
        if wanted:
            self._selector.modify(connection.socket, wanted, connection)
        else:
            self._close(connection)

    def _drop_silent(self) -> None:
        deadline = time.monotonic() - _SILENCE_S
        for connection in [c for c in self._connections if c.heard < deadline]:
            self._close(connection)

    def _close(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()


def _listen(port: Port) -> socket.socket:
    kind = socket.SOCK_DGRAM if port.protocol == "UDP" else socket.SOCK_STREAM
    try:
        listener = socket.socket(socket.AF_INET6, kind)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        address = "::"
    except OSError:  # a kernel without IPv6
        listener = socket.socket(socket.AF_INET, kind)
        address = "0.0.0.0"  # noqa: S104 - a pod's own namespace
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port.number))
    if kind == socket.SOCK_STREAM:
        listener.listen(1024)
    listener.setblocking(False)
    return listener


class _Connection:
    """One client: what it sent and what it has not taken yet."""

    def __init__(self, accepted: socket.socket, line: bytes) -> None:
        self.socket = accepted
        self.unsent = bytearray()
        self.done = False  # nothing more is read
        self.heard = time.monotonic()
        self._line = line
        self._received = bytearray()
        self._is_http: bool | None = None  # None: too little has come to tell
        self._answered = False
        self._body_left = 0

    def receive(self) -> None:
        data = self.socket.recv(_CHUNK)
        self.heard = time.monotonic()
        if not data:
            if not self._is_http and not self._answered:
                self.unsent += self._line
            self.done = True
            return
        if self._is_http is False:
            self._answer_line()
            return
        self._received += data
        if self._is_http is None and not self._recognize():
            return
        if self._is_http:
            self._answer_requests()
        else:
            self._answer_line()

    def send(self) -> None:
        while self.unsent:
            try:
                sent = self.socket.send(self.unsent)
            except BlockingIOError:
                return
            del self.unsent[:sent]

    def _recognize(self) -> bool:
        start = bytes(self._received[:8])
        if start.startswith(_METHODS):
            self._is_http = True
        elif not any(method.startswith(start) for method in _METHODS):
            self._is_http = False
            self._received.clear()
        return self._is_http is not None

    def _answer_line(self) -> None:
        self._answered = True
        if len(self.unsent) < _MOST_UNSENT:
            self.unsent += self._line

    def _answer_requests(self) -> None:
        while not self.done:
            skipped = min(self._body_left, len(self._received))
            del self._received[:skipped]
            self._body_left -= skipped
            head, separator, rest = bytes(self._received).partition(b"\r\n\r\n")
            if self._body_left or not separator:
                self.done = len(self._received) > _LONGEST_HEAD
                return
            self._received = bytearray(rest)
            self._answer_request(head)

    def _answer_request(self, head: bytes) -> None:
        request, *lines = head.split(b"\r\n")
        headers = {k.strip().lower(): v.strip().lower() for k, _, v in (line.partition(b":") for line in lines)}
        length = headers.get(b"content-length", b"0")
        self._body_left = int(length) if length.isdigit() and len(length) < 16 else 0
        keep = request.endswith(b"HTTP/1.1") and headers.get(b"connection") != b"close"
        self.unsent += (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n"
            % (len(self._line), b"keep-alive" if keep else b"close")
        )
        if not request.startswith(b"HEAD "):
            self.unsent += self._line
        self.done = not keep
