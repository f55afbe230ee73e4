# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy statedb watch` over the real admin API: rows, changes, and what a reader who is too slow is told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ciliumpy.api import admin_statedb
from ciliumpy.tables.identities import IDENTITIES, Identity

from .stream_agents import Agent, agents

LABELS = ("k8s:app=new",)


@contextmanager
def watch(run_dir: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-m", "ciliumpy.cli", "statedb", "watch", *arguments],
        env={**os.environ, "CILIUMPY_RUN_DIR": str(run_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_rows_then_changes_with_their_revision(tmp_path: Path) -> None:
    with agents(tmp_path, "n1") as (agent,), watch(tmp_path, "identities", "-o", "json") as child:
        rows = [json.loads(child.stdout.readline()) for _ in agent.db.table(IDENTITIES).all()]
        assert [row["row"]["id"] for row in rows] == [row.id for row in agent.db.table(IDENTITIES).all()]
        assert {(row["initial"], row["deleted"]) for row in rows} == {(True, False)}
        agent.write(lambda txn: txn.upsert(IDENTITIES, Identity(4711, LABELS)))
        came = json.loads(child.stdout.readline())
        revision = agent.db.table(IDENTITIES).revision
        row = {"id": 4711, "labels": list(LABELS), "reserved": False}
        assert came == {"revision": revision, "deleted": False, "initial": False, "row": row}
        agent.write(lambda txn: txn.delete(IDENTITIES, 4711))
        assert json.loads(child.stdout.readline()) == {**came, "revision": revision + 1, "deleted": True}
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=10)
        assert (out, child.returncode) == ("", 130)
        assert err == f"{len(rows)} rows of identities, then what changes; press Ctrl-C to quit\n"


def test_text_of_all_nodes_until_an_agent_ends(tmp_path: Path) -> None:
    with agents(tmp_path, "n1", "n2") as (one, two), watch(tmp_path, "identities") as child:
        rows = 2 * len(one.db.table(IDENTITIES))
        assert all(" = id=" in child.stdout.readline() for _ in range(rows))
        two.write(lambda txn: txn.upsert(IDENTITIES, Identity(4711, LABELS)))
        revision = two.db.table(IDENTITIES).revision
        assert child.stdout.readline() == f"n2: {revision:>6} + id=4711 labels=k8s:app=new reserved=false\n"
        two.write(lambda txn: txn.delete(IDENTITIES, 4711))
        assert child.stdout.readline().startswith(f"n2: {revision + 1:>6} - id=4711 ")
        for agent in (one, two):
            agent.close()
            agent.close = lambda: None
        _, err = child.communicate(timeout=10)
        assert child.returncode == 1
        for name in ("n1", "n2"):
            assert f"Error: node {name}: the agent" in err
        assert "Traceback" not in err


def test_a_table_that_is_none(tmp_path: Path) -> None:
    with agents(tmp_path, "n1"), watch(tmp_path, "nothing/../x") as child:
        out, err = child.communicate(timeout=10)
    assert (out, child.returncode) == ("", 1)
    assert err.startswith("Error: node n1: ")
    assert "Traceback" not in err


def test_a_reader_who_stops_reading_is_told_what_it_missed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(admin_statedb, "MOST_BEHIND", 100)
    with agents(tmp_path, "n1") as (agent,), closing(socket.socket(socket.AF_UNIX)) as reader:
        reader.settimeout(10)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(str(tmp_path / "labs/demo/n1/agent.sock"))
        reader.sendall(b"GET /v1/statedb/identities/watch HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        lines = _lines(reader)
        first = next(lines)
        assert first == {"rows": len(agent.db.table(IDENTITIES)), "revision": first["revision"], "missed": 0}
        table = agent.db.table(IDENTITIES)
        long = tuple(f"k8s:label-{n}={'x' * 60}" for n in range(40))
        for start in range(0, 3000, 50):  # far more than the sockets hold
            ids = range(10_000 + start, 10_050 + start)
            agent.write(lambda txn, ids=ids: [txn.upsert(IDENTITIES, Identity(n, long)) for n in ids] and None)
            agent.write(lambda txn, ids=ids: [txn.delete(IDENTITIES, n) for n in ids] and None)
        assert len(table._graves) <= 101, "the agent keeps no more than the limit for who does not read"
        agent.write(lambda txn: txn.upsert(IDENTITIES, Identity(99, LABELS)))
        again = next(line for line in lines if line.get("missed"))
        assert again["missed"] > 100
        rows = [next(lines) for _ in range(again["rows"])]
        assert {row["row"]["id"] for row in rows} == {row.id for row in table.all()}
        assert all(row["initial"] for row in rows)
        assert len(table._graves) == 0


def _lines(reader: socket.socket) -> Iterator[dict]:
    """Yield the objects of a chunked answer."""
    with reader.makefile("rb") as file:
        while file.readline() != b"\r\n":
            pass
        rest = b""
        while size := int(file.readline(), 16):
            *whole, rest = (rest + file.read(size)).split(b"\n")
            file.readline()
            yield from (json.loads(line) for line in whole)


def test_who_goes_is_forgotten(tmp_path: Path) -> None:
    with agents(tmp_path, "n1") as (agent,):
        table = agent.db.table(IDENTITIES)
        before = len(table._observers)
        with watch(tmp_path, "identities") as child:
            child.stdout.readline()
            assert len(table._observers) == before + 1
        _until(agent, lambda: len(table._observers) == before)


def _until(agent: Agent, condition) -> None:
    for number in range(1000):
        if condition():
            return
        agent.write(lambda txn, number=number: txn.upsert(IDENTITIES, Identity(50_000 + number, LABELS)))
    pytest.fail("the observer is still there")
