# SPDX-License-Identifier: Apache-2.0
"""Datagrams that show whether any packet was lost."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .agent_node import Pod


class Probe:
    """Datagrams, a thousand a second, from one pod to another and back, until it is told to end."""

    def __init__(self, source: Pod, target: Pod, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._server = target.socket(family, socket.SOCK_DGRAM)
        self._server.bind((address, 9000))
        self._server.settimeout(0.2)
        self._client = source.socket(family, socket.SOCK_DGRAM)
        self._client.connect((address, 9000))
        self._client.setblocking(False)
        self.sent = self.echoed = 0
        self._end = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._echo, self._send)]
        for thread in self._threads:
            thread.start()

    def _echo(self) -> None:
        while True:
            try:
                data, sender = self._server.recvfrom(64)
                self._server.sendto(data, sender)
            except TimeoutError:
                if self._end.is_set():
                    return

    def _send(self) -> None:
        due = time.monotonic()
        while not self._end.is_set():
            self._client.send(b"x")
            self.sent += 1
            self._drain()
            due = max(due + 0.001, time.monotonic() - 0.01)
            time.sleep(max(0.0, due - time.monotonic()))

    def _drain(self) -> None:
        while True:
            try:
                self._client.recv(64)
                self.echoed += 1
            except BlockingIOError:
                return

    def stop(self) -> int:
        """End it; return how many datagrams never came back."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        self._drain()
        self._client.close()
        self._server.close()
        return self.sent - self.echoed
