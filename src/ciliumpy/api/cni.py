# SPDX-License-Identifier: Apache-2.0
"""Answers the CNI plugin on a unix socket: one JSON line there, with the pod's namespace as a descriptor, one back.

    {"command": "ADD"|"DEL", "containerID", "ifname", "netns", "podNamespace", "podName", "podUID"}
    {"result": {CNI 1.1.0 result}}  or  {"error": {"code", "msg", "details"}}

A deletion that the plugin queued while no agent was there is worked off when this one starts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ciliumpy.api.listener import listener
from ciliumpy.endpoints.controller import Request
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.errors import FieldError
from ciliumpy.store.kinds import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ciliumpy.endpoints.controller import Endpoints
    from ciliumpy.endpoints.plug import Gateway
    from ciliumpy.tables.endpoints import Endpoint

LONGEST_REQUEST = 65536
REQUEST_TIMEOUT_S = 5.0
QUEUE = "cni-deletes"

# Error codes of the CNI specification.
INVALID_ENVIRONMENT = 4
TRY_AGAIN_LATER = 11
INTERNAL = 100

_log = logging.getLogger(__name__)


class Message(msgspec.Struct, frozen=True):
    command: str
    container_id: str = msgspec.field(name="containerID")
    ifname: str
    netns: str = ""
    pod_namespace: str = msgspec.field(name="podNamespace", default="")
    pod_name: str = msgspec.field(name="podName", default="")
    pod_uid: str = msgspec.field(name="podUID", default="")


class Failure(NamedTuple):
    code: int
    message: str
    details: str = ""


class CniServer:
    """Serves ADD and DEL, each connection in a task of the server's own job."""

    def __init__(self, endpoints: Endpoints, gateway: Gateway, path: Path) -> None:
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
                    connection, _ = await loop.sock_accept(own)
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
            result = Failure(TRY_AGAIN_LATER, error.message, error.hint or "")
        except Exception as error:  # noqa: BLE001 - whatever it was, the plugin gets an answer
            _log.exception("CNI request failed")
            result = Failure(INTERNAL, f"{type(error).__name__}: {error}", "this is a defect; the agent's log has more")
        if isinstance(result, Failure):
            _log.warning("CNI: %s", result.message)
            body: dict[str, Any] = {"code": result.code, "msg": result.message, "details": result.details}
            return msgspec.json.encode({"error": body}) + b"\n"
        return msgspec.json.encode({"result": result}) + b"\n"

    async def _handle(self, line: bytes, fd: int | None) -> dict[str, Any] | Failure:
        try:
            message = msgspec.json.decode(line, type=Message)
        except msgspec.DecodeError as error:
            return Failure(INVALID_ENVIRONMENT, f"the request cannot be read: {error}")
        if message.command == "DEL":
            await self._endpoints.remove(message.container_id, message.ifname)
            return {}
        if message.command != "ADD":
            return Failure(INVALID_ENVIRONMENT, f"command {message.command!r} is not known")
        if fd is None:
            return Failure(INVALID_ENVIRONMENT, "the request has no network namespace")
        if fault := _name_fault(message):
            return Failure(INVALID_ENVIRONMENT, fault)
        request = Request(
            message.container_id,
            message.ifname,
            message.netns,
            message.pod_namespace,
            message.pod_name,
            message.pod_uid,
        )
        endpoint = await self._endpoints.add(request, fd)
        return result_of(endpoint, self._gateway, message.netns)

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


def _name_fault(message: Message) -> str:
    """Return what is wrong with the pod's names: they go to the log, to the store, and to who looks at flows."""
    if not message.pod_name and not message.pod_namespace:
        return ""  # a runtime without Kubernetes
    metadata = {"name": message.pod_name, "namespace": message.pod_namespace}
    try:
        key_of({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})
    except FieldError as error:
        return f"K8S_POD_{str(error.path[-1]).upper()}: {error.message}"
    return ""


async def _receive(connection: socket.socket, fds: list[int]) -> bytes:
    """Read one line; descriptors that come along are put into `fds`. The caller closes them."""
    connection.setblocking(False)
    received = b""
    while not received.endswith(b"\n") and len(received) < LONGEST_REQUEST:
        try:
            part, got, _, _ = socket.recv_fds(connection, LONGEST_REQUEST, 4, socket.MSG_DONTWAIT)
        except BlockingIOError:
            await _readable(connection)
            continue
        fds += got
        if not part:
            break
        received += part
    return received


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


def result_of(endpoint: Endpoint, gateway: Gateway, netns: str) -> dict[str, Any]:
    """Return the endpoint as a CNI 1.1.0 result."""
    ips, routes = [], []
    for address, router, length, default in (
        (endpoint.ipv4, gateway.ipv4, 32, "0.0.0.0/0"),
        (endpoint.ipv6, gateway.ipv6, 128, "::/0"),
    ):
        if address:
            ips.append({"address": f"{address}/{length}", "gateway": router, "interface": 1})
            routes.append({"dst": default, "gw": router})
    return {
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": endpoint.host_interface, "mac": endpoint.host_mac, "mtu": gateway.mtu},
            {"name": endpoint.interface, "mac": endpoint.mac, "mtu": gateway.mtu, "sandbox": netns},
        ],
        "ips": ips,
        "routes": routes,
        "dns": {},
    }
