# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy hubble …` and the peer service, against real observers on real sockets."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ciliumpy.api import peers
from ciliumpy.cli.__main__ import main
from ciliumpy.kit.clock import SystemClock
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.proto import peer_pb2
from ciliumpy.state.database import Database
from ciliumpy.tables.registry import ALL_TABLES
from ciliumpy.tables.source import NODES, Node

from .test_observer import denied, nodes, opened


@pytest.fixture
def hubble(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("CILIUMPY_RUN_DIR", str(tmp_path))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["hubble", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_status_of_all_nodes_and_of_one(tmp_path: Path, hubble) -> None:
    with nodes(tmp_path, "n1", "n2") as (one, two):
        one.add(opened(1))
        two.add(opened(1), denied(2))
        code, out, err = hubble("status")
        assert (code, err) == (0, "")
        assert out == (
            "Healthcheck (via 2 agents): Ok\nCurrent/Max Flows: 6/2,000 (0.30%)\nFlows/s: 5.00\nConnected Nodes: 2/2\n"
        )
        code, out, _ = hubble("status", "--node", "n2", "-o", "json")
        said = json.loads(out)
        assert (said["num_flows"], said["max_flows"], said["num_connected_nodes"]) == ("4", "1000", 1)
        assert int(said["uptime_ns"]) > 0
        two.close()
        two.close = lambda: None
        code, out, err = hubble("status")
        assert code == 1
        assert out.startswith("Healthcheck (via 1 of 2 agents): Ok\n")
        assert out.endswith("Connected Nodes: 1/2\nUnavailable Nodes: 1\n  - n2\n")
        assert "n2: the agent is not running" in err
    code, out, err = hubble("status")
    assert (code, out) == (1, "")
    assert err.startswith("Error: the agent is not running")


def test_nodes_and_namespaces(tmp_path: Path, hubble) -> None:
    with nodes(tmp_path, "n1", "n2") as (one, two):
        one.history.append(one._enricher.rows(opened(0), SystemClock().now_ns()))
        two.history.append(two._enricher.rows(denied(0), SystemClock().now_ns()))
        code, out, _ = hubble("list", "nodes")
        assert code == 0
        head, *rows = [re.split(r"  +", line) for line in out.splitlines()]
        assert head == ["NAME", "STATUS", "AGE", "FLOWS/S", "CURRENT/MAX-FLOWS"]
        assert [(row[0], row[1], row[4]) for row in rows] == [
            ("default/n1", "Connected", "2/1000"),
            ("default/n2", "Connected", "2/1000"),
        ]
        assert f"unix://{one.socket}" in hubble("list", "nodes", "-o", "wide")[1]
        assert hubble("list", "namespaces")[1].split() == ["NAMESPACE", "guest", "shop"]
        assert hubble("list", "namespaces", "--node", "n1", "-o", "name")[1] == "hubblenamespace/shop\n"
        items = json.loads(hubble("list", "namespaces", "-o", "json")[1])["items"]
        assert items == [{"cluster": "default", "namespace": name} for name in ("guest", "shop")]
        two.close()
        two.close = lambda: None
        code, out, err = hubble("list", "nodes")
        assert (code, err) == (1, "Error: node n2: the agent is not running\n")
        assert [line.split()[:2] for line in out.splitlines()[1:]] == [
            ["default/n1", "Connected"],
            ["default/n2", "Unavailable"],
        ]
        assert out.splitlines()[2].split()[2:] == ["N/A"] * 3


def test_observe_is_there_too(tmp_path: Path, hubble) -> None:
    with nodes(tmp_path, "n1") as (one,):
        one.add(denied(1))
        code, out, _ = hubble("observe", "--not", "-t", "policy-verdict")
        assert code == 0
        assert "Policy denied DROPPED" in out


def test_peers_as_they_come_and_go(tmp_path: Path) -> None:
    with nodes(tmp_path, "n1") as (one,):
        one.write(lambda txn: txn.upsert(NODES, Node("n1", internal_ips=("172.30.0.1", "fd00::1"))))
        one.write(lambda txn: txn.upsert(NODES, Node("far", cluster="east", internal_ips=("fd00::2",))))
        child = subprocess.Popen(
            [sys.executable, "-m", "ciliumpy.cli", "hubble", "watch", "peers"],
            env={**os.environ, "CILIUMPY_RUN_DIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert child.stdout.readline() == "PEER_ADDED   172.30.0.1:4244 n1\n"
            assert child.stdout.readline() == "PEER_ADDED   [fd00::2]:4244 east/far\n"
            one.write(lambda txn: txn.upsert(NODES, Node("n1", internal_ips=("172.30.0.1", "fd00::9"))))  # no news
            one.write(lambda txn: txn.upsert(NODES, Node("n1", internal_ips=("172.30.0.7",))))
            assert child.stdout.readline() == "PEER_UPDATED 172.30.0.7:4244 n1\n"
            one.write(lambda txn: txn.delete(NODES, "far"))
            assert child.stdout.readline() == "PEER_DELETED [fd00::2]:4244 east/far\n"
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=10)
            assert (child.returncode, err) == (130, "")
        finally:
            child.kill()
            child.communicate()


async def test_a_client_who_does_not_read_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr(peers, "MOST_BEHIND", 3)
    db = Database(ALL_TABLES)
    with db.write() as txn:
        txn.upsert(NODES, Node("n0"))
    stream = peers.changes(db)
    assert await anext(stream) == peer_pb2.ChangeNotification(name="n0", type=peer_pb2.PEER_ADDED)
    for number in range(1, 6):
        with db.write() as txn:
            txn.upsert(NODES, Node(f"n{number}"))
        with db.write() as txn:
            txn.delete(NODES, f"n{number}")
    with pytest.raises(CiliumpyError, match="blocked for too long"):
        await anext(stream)
