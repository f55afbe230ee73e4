# SPDX-License-Identifier: Apache-2.0
"""The process in a pod that tries and counts. It reads one JSON object a line, and answers each with one.

{"do": "try", "targets": [[protocol, address, port], ...], "seconds"}: all at the same time; `open` says which answered.
{"do": "sink", "ports"}: from now on count the datagrams that come to these ports.
{"do": "send", "targets": [[number, address, port], ...], "seconds"}: a datagram to each, again every so many seconds.
{"do": "stop"}: end that.
{"do": "collect"}: what was `sent` and `received`, as base64 of packed records.
"""

from __future__ import annotations

import base64
import json
import selectors
import socket
import struct
import sys
import threading
import time
from contextlib import suppress

DATAGRAM = struct.Struct("!II")  # target, sequence number
SENT = struct.Struct("!IIQQ")  # target, sequence number, monotonic ns before and after
RECEIVED = struct.Struct("!IIQ")  # target, sequence number, monotonic ns
AGAIN_S = 0.15


class Probe:
    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._sender: threading.Thread | None = None
        self._sent: list[bytes] = []
        self._received: list[bytes] = []

    def run(self) -> None:
        for line in sys.stdin.buffer:
            request = json.loads(line)
            answer = getattr(self, f"_{request['do']}")(request)
            sys.stdout.buffer.write(json.dumps({"id": request["id"], **answer}).encode() + b"\n")
            sys.stdout.buffer.flush()

    def _try(self, request):
        deadline = time.monotonic() + request["seconds"]
        selector = selectors.DefaultSelector()
        waiting = set()
        answered = [False] * len(request["targets"])
        for index, (protocol, address, port) in enumerate(request["targets"]):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
            one = socket.socket(family, kind)
            one.setblocking(False)
            one.connect_ex((address, port))
            with suppress(OSError):
                if kind == socket.SOCK_DGRAM:
                    one.send(b"?\n")
            events = selectors.EVENT_WRITE if kind == socket.SOCK_STREAM else selectors.EVENT_READ
            selector.register(one, events, index)
            waiting.add(one)
        again = time.monotonic() + AGAIN_S
        while waiting and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(min(left, AGAIN_S)):
                one = key.fileobj
                failed = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if one.type == socket.SOCK_DGRAM:
                    try:
                        answered[key.data] = bool(one.recv(64))
                    except OSError:  # an error came back: nobody listens
                        continue
                else:
                    answered[key.data] = not failed
                selector.unregister(one)
                waiting.discard(one)
                one.close()
            if time.monotonic() > again:
                again += AGAIN_S
                for one in waiting:
                    if one.type == socket.SOCK_DGRAM:
                        with suppress(OSError):
                            one.send(b"?\n")
        for one in waiting:
            one.close()
        selector.close()
        return {"open": answered}

    def _sink(self, request):
        for port in request["ports"]:
            for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                one = socket.socket(family, socket.SOCK_DGRAM)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
                one.bind((any_address, port))
                threading.Thread(target=self._receive, args=(one,), daemon=True).start()
        return {}

    def _receive(self, one):
        while True:
            with suppress(OSError):
                target, number = DATAGRAM.unpack(one.recv(64))
                self._received.append(RECEIVED.pack(target, number, time.monotonic_ns()))

    def _send(self, request):
        self._stopping.clear()
        self._sender = threading.Thread(target=self._stream, args=(request["targets"], request["seconds"]), daemon=True)
        self._sender.start()
        return {}

    def _stream(self, targets, seconds):
        sockets = []
        for target, address, port in targets:
            one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
            one.connect((address, port))
            sockets.append((target, one))
        number = 0
        due = time.monotonic()
        while not self._stopping.is_set():
            for target, one in sockets:
                number += 1
                began = time.monotonic_ns()
                try:
                    one.send(DATAGRAM.pack(target, number))
                except OSError:  # an ICMP error of an earlier one; the datagram itself was not sent
                    with suppress(OSError):
                        one.send(DATAGRAM.pack(target, number))
                self._sent.append(SENT.pack(target, number, began, time.monotonic_ns()))
            due += seconds
            self._stopping.wait(max(0.0, due - time.monotonic()))
        for _, one in sockets:
            one.close()

    def _stop(self, _):
        self._stopping.set()
        if self._sender is not None:
            self._sender.join()
        return {}

    def _collect(self, _):
        return {
            name: base64.b64encode(b"".join(records)).decode()
            for name, records in (("sent", self._take("_sent")), ("received", self._take("_received")))
        }

    def _take(self, name):
        records = getattr(self, name)
        setattr(self, name, [])
        return records


def main() -> None:
    Probe().run()
