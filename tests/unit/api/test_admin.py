# SPDX-License-Identifier: Apache-2.0
"""The admin API's server: its socket, its refusals, long lists and streams. What it answers is in tests/golden."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ciliumpy.api.admin import AdminContext
from ciliumpy.api.admin_server import serve
from ciliumpy.client.admin import AdminClient
from ciliumpy.daemon import config
from ciliumpy.daemon.runtime import RuntimeConfig
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.state.database import Database
from ciliumpy.tables.identities import IDENTITIES, Identity
from ciliumpy.tables.registry import ALL_TABLES
from tests.golden.agents import objects

ROWS = 10_000  # some 100 ms of encoding


class Agent:
    """What stands behind the API."""

    def __init__(self) -> None:
        self.db = Database(ALL_TABLES)
        self.ended = asyncio.Event()

    def context(self) -> AdminContext:
        settings = RuntimeConfig(config.load(None, {"CILIUMPY_NODE_NAME": "n1"}), {})
        return AdminContext(self.db, self.status, settings, self.monitor, objects(self.db, Path("/nowhere")))

    def status(self) -> dict:
        if not len(self.db.table(IDENTITIES)):
            raise CiliumpyError("the agent has no identities", "wait")
        return {"state": "ok"}

    async def monitor(self, types: frozenset[str]) -> AsyncIterator[bytes]:
        try:
            while True:
                yield json.dumps(sorted(types)).encode()
                await asyncio.sleep(0.01)
        finally:
            self.ended.set()


@asynccontextmanager
async def served(agent: Agent, path: Path) -> AsyncIterator[AdminClient]:
    listening = asyncio.Event()
    task = asyncio.get_running_loop().create_task(serve(agent.context(), path, listening.set))
    waiting = asyncio.get_running_loop().create_task(listening.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        if task.done():
            task.result()
        yield AdminClient(path)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def refusal(client: AdminClient, path: str) -> CiliumpyError:
    with pytest.raises(CiliumpyError) as error:
        await asyncio.to_thread(client.get, path)
    return error.value


async def test_only_the_owner_may_open_the_socket_and_it_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    async with served(Agent(), path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_dead_agent_s_socket_is_replaced_a_living_one_s_is_not(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with served(Agent(), path) as client:
        assert (await asyncio.to_thread(client.get, "/v1/config/node.name"))["value"] == "n1"
        with pytest.raises(CiliumpyError, match="another agent listens"):
            async with served(Agent(), path):
                pass
        assert (await asyncio.to_thread(client.get, "/v1/config/node.name"))["value"] == "n1"


async def test_a_socket_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(CiliumpyError, match="cannot listen on"):
        async with served(Agent(), tmp_path / "none" / "agent.sock"):
            pass


async def test_refusals_say_what_and_what_to_do(tmp_path: Path) -> None:
    async with served(Agent(), tmp_path / "agent.sock") as client:
        for path, message, hint in (
            ("/v1/endpoints/9", "there is no endpoint 9", "`ciliumpy endpoint list` shows them"),
            ("/v1/identities/9", "there is no identity 9", "`ciliumpy identity list` shows them"),
            ("/v1/policies/shop/api", "there is no policy shop/api", "`ciliumpy policy list` shows them"),
            ("/v1/statedb/nope", "there is no table 'nope'", "`ciliumpy statedb tables` shows them"),
            ("/v1/status", "the agent has no identities", "wait"),
        ):
            error = await refusal(client, path)
            assert (error.message, error.hint) == (message, hint)
        assert (await refusal(client, "/v2/status")).message == "the agent does not know /v2/status"
        client.version = "0.0.1"
        error = await refusal(client, "/v2/status")
        assert error.message.startswith("the agent does not know /v2/status: it is version 0.0.1, and this command ")
        assert error.hint == "restart the agent with the version of this command"


async def test_a_defect_is_an_answer_and_a_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    agent = Agent()
    agent.status = lambda: {}["state"]  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR):
        async with served(agent, tmp_path / "agent.sock") as client:
            error = await refusal(client, "/v1/status")
            assert error.message == "KeyError: 'state'"
            assert (await asyncio.to_thread(client.get, "/v1/identities"))["items"] == []
    assert "GET /v1/status failed" in caplog.text


async def test_a_long_list_lets_others_have_their_turn(tmp_path: Path) -> None:
    agent = Agent()
    with agent.db.write() as txn:
        for number in range(ROWS):
            txn.upsert(IDENTITIES, Identity(number, (f"k8s:a={number}",)))
    async with served(agent, tmp_path / "agent.sock") as client:
        asked = asyncio.get_running_loop().create_task(asyncio.to_thread(client.get, "/v1/identities"))
        turns = 0
        while not asked.done():
            turns += 1
            await asyncio.sleep(0)
        items = (await asked)["items"]
    assert [item["id"] for item in items] == list(range(ROWS))
    assert turns > 20


async def test_the_monitor_ends_when_its_reader_goes(tmp_path: Path) -> None:
    agent = Agent()
    async with served(agent, tmp_path / "agent.sock") as client:
        lines = client.stream("/v1/monitor?type=trace,drop")
        assert json.loads(await asyncio.to_thread(next, lines)) == ["drop", "trace"]
        lines.close()  # type: ignore[attr-defined]
        await asyncio.wait_for(agent.ended.wait(), 5)


async def test_the_monitor_ends_with_the_server(tmp_path: Path) -> None:
    agent = Agent()
    async with served(agent, tmp_path / "agent.sock") as client:
        lines = client.stream("/v1/monitor")
        assert json.loads(await asyncio.to_thread(next, lines)) == []
    with pytest.raises(CiliumpyError, match="hung up"):
        await asyncio.to_thread(list, lines)
    assert agent.ended.is_set()


async def test_a_table_is_dumped_with_camel_case_keys_and_hexadecimal_bytes(tmp_path: Path) -> None:
    from ciliumpy.tables.datapath import INSTALLED_SETS, InstalledSet
    from ciliumpy.tables.enforcement import VECTORS, SelectorVector

    agent = Agent()
    with agent.db.write() as txn:
        txn.upsert(INSTALLED_SETS, InstalledSet(7, 3, ingress_enforced=True, egress_enforced=False))
        txn.upsert(VECTORS, SelectorVector(7, b"\x01\xff"))
    agent.db.table(VECTORS).reconciled = True
    async with served(agent, tmp_path / "agent.sock") as client:
        sets = (await asyncio.to_thread(client.get, "/v1/statedb/installed-sets"))["items"]
        vectors = (await asyncio.to_thread(client.get, "/v1/statedb/vectors"))["items"]
    row = {"identity": 7, "id": 3, "ingressEnforced": True, "egressEnforced": False, "namedPorts": None}
    assert sets == [{"revision": 1, "row": row}]
    assert vectors[0]["row"] == {"identity": 7, "words": "01ff"}
    assert vectors[0]["status"] == {"state": "pending", "error": ""}
