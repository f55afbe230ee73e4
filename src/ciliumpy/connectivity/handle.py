# SPDX-License-Identifier: Apache-2.0
"""The near end of an actor: sends requests, gives answers to who waits for them. Any number of threads may ask."""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    import subprocess

_GRACE_S = 20.0  # beyond what a request may take by itself: the machine may be busy
_END_S = 5.0

Answer = dict[str, Any]


class Handle:
    """Owns the actor's process; `close` ends it."""

    def __init__(self, who: str, process: subprocess.Popen[bytes]) -> None:
        self._who = who
        self._process = process
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Answer]] = {}
        self._ended = False
        self._reader = threading.Thread(target=self._read, name=f"actor {who}", daemon=True)
        self._reader.start()

    def ask(self, do: str, *, timeout_s: float, **request: Any) -> Answer:
        """Return the answer, soon after `timeout_s` at the latest. CiliumpyError if the actor has ended."""
        future: Future[Answer] = Future()
        number = next(self._numbers)
        line = json.dumps({"id": number, "do": do, "timeout": timeout_s, **request}).encode() + b"\n"
        assert self._process.stdin is not None  # noqa: S101
        with self._lock:
            if self._ended:
                raise self._lost()
            self._waiting[number] = future
            try:
                self._process.stdin.write(line)
                self._process.stdin.flush()
            except OSError as error:
                raise self._lost() from error
        try:
            return future.result(timeout_s + _GRACE_S)
        except TimeoutError:
            raise CiliumpyError(
                f"the actor of {self._who} does not answer", "is the machine very busy, or the pod stopped?"
            ) from None

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101
        with suppress(OSError, ValueError):
            for line in self._process.stdout:
                answer = json.loads(line)
                with self._lock:
                    future = self._waiting.pop(answer["id"], None)
                if future is not None:
                    future.set_result(answer)
        with self._lock:
            self._ended = True
            waiting = list(self._waiting.values())
            self._waiting.clear()
        for future in waiting:
            future.set_exception(self._lost())

    def _lost(self) -> CiliumpyError:
        return CiliumpyError(f"the actor of {self._who} has ended", "was its pod or the lab removed meanwhile?")

    def close(self) -> None:
        with suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except Exception:  # noqa: BLE001 - subprocess.TimeoutExpired, without importing it for every command
            self._process.kill()
            self._process.wait()
        self._reader.join(_END_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
