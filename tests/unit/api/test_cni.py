# SPDX-License-Identifier: Apache-2.0
"""Deletions that waited for the agent: worked off beside what comes in, whatever is among them."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ciliumpy.api import cni as module
from ciliumpy.api.cni import QUEUE, CniServer
from ciliumpy.endpoints.plug import Gateway
from ciliumpy.kit.errors import CiliumpyError


class Endpoints:
    """Removes when it is let."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.last = asyncio.Event()
        self.asked: list[str] = []
        self.removed: list[str] = []

    async def remove(self, container_id: str, _interface: str) -> bool:
        self.asked.append(container_id)
        if container_id == "now":
            return False
        await self.let.wait()
        if container_id == "busy":
            raise CiliumpyError("try again")
        if container_id == "defect":
            raise KeyError(container_id)
        self.removed.append(container_id)
        if container_id == "two":
            self.last.set()
        return True


@pytest.fixture
async def endpoints(tmp_path: Path) -> AsyncIterator[Endpoints]:
    """A server that listens, with a queue that stands still."""
    queue = tmp_path / QUEUE
    queue.mkdir()
    for number, name in enumerate(("busy", "defect", "one", "two")):
        (queue / f"{number}.json").write_text(json.dumps({"command": "DEL", "containerID": name, "ifname": "eth0"}))
    (queue / "4.json").write_text("{")
    (queue / "5.json").mkdir()
    made, listening = Endpoints(), asyncio.Event()
    server = CniServer(made, Gateway("", "", 1450), tmp_path / "cni.sock", lambda: None)  # type: ignore[arg-type]
    task = asyncio.get_running_loop().create_task(server.run(listening.set))
    async with asyncio.timeout(5):
        await listening.wait()
    yield made
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def ask(path: Path, container: str) -> object:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(json.dumps({"command": "DEL", "containerID": container, "ifname": "eth0"}).encode() + b"\n")
    answer = json.loads(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_long_queue_keeps_nobody_waiting(endpoints: Endpoints, tmp_path: Path) -> None:
    async with asyncio.timeout(5):
        assert await ask(tmp_path / "cni.sock", "now") == {"result": {}}
    assert endpoints.removed == []


async def test_what_cannot_be_deleted_stays_and_stops_nothing(endpoints: Endpoints, tmp_path: Path) -> None:
    endpoints.let.set()
    async with asyncio.timeout(5):
        await endpoints.last.wait()
        assert await ask(tmp_path / "cni.sock", "now") == {"result": {}}
    assert endpoints.removed == ["one", "two"]
    assert sorted(path.name for path in (tmp_path / QUEUE).iterdir()) == ["0.json", "1.json", "5.json"]


async def test_without_descriptors_it_waits_and_undoes_nothing(endpoints: Endpoints, tmp_path: Path) -> None:
    """Who is served goes on; who comes meanwhile is served as soon as there are some again."""
    path = tmp_path / "cni.sock"
    waiting = asyncio.get_running_loop().create_task(ask(path, "before"))
    late = socket.socket(socket.AF_UNIX)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with asyncio.timeout(5):
        while len(endpoints.asked) < 2:  # noqa: ASYNC110 - the queue's first, and this
            await asyncio.sleep(0.001)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            late.connect(str(path))
            late.sendall(b'{"command": "STATUS"}\n')
            await asyncio.sleep(0.05)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        reader, writer = await asyncio.open_unix_connection(sock=late)
        assert json.loads(await reader.readline()) == {"result": {}}
        writer.close()
        await writer.wait_closed()
        endpoints.let.set()
        assert await waiting == {"result": {}}


async def test_json_too_deep_is_no_defect(endpoints: Endpoints, tmp_path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "cni.sock"))
    writer.write(b'{"command": "ADD", "prevResult":' + b'{"a":' * 50_000 + b"\n")
    async with asyncio.timeout(5):
        assert json.loads(await reader.readline())["error"]["code"] == 4
    writer.close()
    await writer.wait_closed()
    assert endpoints.removed == []


async def test_who_says_nothing_or_half_is_hung_up_on(endpoints: Endpoints, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "REQUEST_TIMEOUT_S", 0.05)
    async with asyncio.timeout(5):
        for said in (b"", b'{"command": "STATUS"'):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "cni.sock"))
            writer.write(said)
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
    assert await ask(tmp_path / "cni.sock", "now") == {"result": {}}
