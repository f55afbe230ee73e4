# SPDX-License-Identifier: Apache-2.0
"""Answers the CNI plugin on a unix socket; what is said there is in `cni_messages`, a pod's namespace comes along.

A deletion that the plugin queued while no agent was there is worked off when this one starts.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

import msgspec

from ciliumpy.api.cni_messages import (
    INTERNAL,
    INVALID_CONFIG,
    INVALID_ENVIRONMENT,
    Failure,
    Message,
    failure_of,
    previous_of,
    request_fault,
    result_of,
)
from ciliumpy.api.listener import listener
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ciliumpy.endpoints.controller import Endpoints
    from ciliumpy.endpoints.plug import Gateway

LONGEST_REQUEST = 4 << 20  # a list of 4,095 attachments, or a prevResult as long as the plugin takes it
REQUEST_TIMEOUT_S = 5.0
ACCEPT_AGAIN_S = 0.2
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
QUEUE = "cni-deletes"

_log = logging.getLogger(__name__)


class CniServer:
    """Serves the plugin, each connection in a task of the server's own job.

    `unavailable` says for STATUS why an ADD would fail or pods are cut off, None if neither is so.
    """

    def __init__(
        self, endpoints: Endpoints, gateway: Gateway, path: Path, unavailable: Callable[[], Failure | None]
    ) -> None:
        self._unavailable = unavailable
        self._endpoints = endpoints
        self._gateway = gateway
        self._path = path

    async def run(self, listening: Callable[[], None] = lambda: None) -> None:
        """Job: accept until cancelled; requests under way are cancelled, and undone, then as well."""
        loop = asyncio.get_running_loop()
        with listener(self._path) as own:
            async with asyncio.TaskGroup() as requests:
                listening()
                # Beside the others: hundreds of deletions take longer than a start may.
                requests.create_task(self._work_off_queue())
                while True:
                    try:
                        connection, _ = await loop.sock_accept(own)
                    except OSError as error:
                        if error.errno not in _EXHAUSTED:
                            raise
                        # Those who are served give theirs back; an end of this job would undo what they asked for.
                        _log.warning("cannot accept CNI requests: %s", error.strerror)
                        await asyncio.sleep(ACCEPT_AGAIN_S)
                        continue
                    requests.create_task(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        with connection:
            fds: list[int] = []
            try:
                line = await asyncio.wait_for(_receive(connection, fds), REQUEST_TIMEOUT_S)
                answer = await self._answer(line, fds[0] if fds else None)
                await asyncio.get_running_loop().sock_sendall(connection, answer)
            except (OSError, TimeoutError) as error:
                _log.warning("CNI client went away: %s", error)
            finally:
                for fd in fds:
                    os.close(fd)

    async def _answer(self, line: bytes, fd: int | None) -> bytes:
        try:
            result = await self._handle(line, fd)
        except CiliumpyError as error:
            result = failure_of(error)
        except Exception as error:  # noqa: BLE001 - whatever it was, the plugin gets an answer
            _log.exception("CNI request failed")
            result = Failure(INTERNAL, f"{type(error).__name__}: {error}", "this is a defect; the agent's log has more")
        if isinstance(result, Failure):
            _log.warning("CNI: %s", result.message)
            return result.encode()
        return msgspec.json.encode({"result": result}) + b"\n"

    async def _handle(self, line: bytes, fd: int | None) -> dict[str, Any] | Failure:
        try:
            message = msgspec.json.decode(line, type=Message)
        except (msgspec.DecodeError, RecursionError) as error:
            return Failure(INVALID_ENVIRONMENT, f"the request cannot be read: {error}")
        if message.command == "STATUS":
            return self._unavailable() or {}
        if message.command == "GC":
            return await self._collect(message)
        if message.command not in {"ADD", "DEL", "CHECK"}:
            return Failure(INVALID_ENVIRONMENT, f"command {message.command!r} is not known")
        if fault := request_fault(message, has_namespace=fd is not None):
            return fault
        if message.command == "DEL":
            await self._endpoints.remove(message.container_id, message.ifname)
            return {}
        assert fd is not None  # noqa: S101 - request_fault has seen to it
        if message.command == "CHECK":
            await self._endpoints.check(message.container_id, message.ifname, fd, previous_of(message))
            return {}
        previous = previous_of(message) if message.previous is not None else None
        endpoint = await self._endpoints.add(message.request(), fd, previous)
        return {} if previous else result_of(endpoint, self._gateway, message.netns)

    async def _collect(self, message: Message) -> dict[str, Any] | Failure:
        if message.attachments is None or not message.network:
            return Failure(INVALID_CONFIG, "GC wants the network's name and the attachments to keep")
        keep = {(each.container_id, each.ifname) for each in message.attachments}
        removed = await self._endpoints.collect(message.network, keep)
        if removed:
            _log.info("CNI GC of %s: removed %d attachments", message.network, removed)
        return {}

    async def _work_off_queue(self) -> None:
        for path, message in _queued(self._path.parent / QUEUE):
            try:
                await self._endpoints.remove(message.container_id, message.ifname)
            except CiliumpyError as error:
                _log.warning("queued deletion %s: %s", path, error)
            except Exception:  # noqa: BLE001 - one that fails must not end the server
                _log.exception("queued deletion %s failed", path)
            else:
                _forget(path)


def _queued(folder: Path) -> Iterator[tuple[Path, Message]]:
    """Read what the plugin left; what cannot be read is forgotten."""
    for path in sorted(folder.glob("*.json")):
        try:
            yield path, msgspec.json.decode(path.read_bytes(), type=Message)
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("queued deletion %s cannot be read and is dropped: %s", path, error)
            _forget(path)


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("queued deletion %s cannot be removed: %s", path, error.strerror)


async def _receive(connection: socket.socket, fds: list[int]) -> bytes:
    """Read one line; descriptors that come along are put into `fds`. The caller closes them."""
    connection.setblocking(False)
    received = bytearray()
    while not received.endswith(b"\n") and len(received) < LONGEST_REQUEST:
        try:
            part, got, _, _ = socket.recv_fds(connection, 65536, 4, socket.MSG_DONTWAIT)
        except BlockingIOError:
            await _readable(connection)
            continue
        fds += got
        if not part:
            break
        received += part
    return bytes(received)


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(connection)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
