# SPDX-License-Identifier: Apache-2.0
"""Names for completion: silent and quick whatever is wrong, and never more than a word."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ciliumpy.cli import names
from ciliumpy.cli.__main__ import main
from ciliumpy.cli.tree import tree
from ciliumpy.tables.endpoints import ENDPOINTS
from tests.golden.agents import Lab, lab


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("CILIUMPY_RUN_DIR", str(tmp_path))
    monkeypatch.setattr("ciliumpy.client.target.BPFFS_DIR", tmp_path / "bpf")  # this machine's demo may be up
    with lab(tmp_path) as built:
        yield built


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["__complete", *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out.split("\n")[:-1]


def test_every_kind_that_the_scripts_ask_for_is_known() -> None:
    asked = {each.dynamic for node in tree().walk() for each in (*node.flags, *node.arguments)} - {""}
    assert asked == set(names.KINDS)


def test_names_of_each_kind(running: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "nodes-or-pods") == [
        "n1",
        "n2",
        "guest/visitor-1",
        "shop/api-1",
        "shop/api-2",
        "shop/frontend-1",
    ]
    assert said(capsys, "endpoints-or-pods", "--node", "n2", "") == ["3", "4", "guest/visitor-1", "shop/api-2"]
    assert said(capsys, "identities", "--node=n1", "")[:4] == ["host", "world", "health", "init"]
    assert said(capsys, "addresses", "--node", "n1", "") == ["10.244.1.3", "10.244.1.4", "10.244.2.3", "10.244.2.4"]
    assert said(capsys, "maps") == []
    assert "TTL_EXCEEDED" in said(capsys, "reasons")


@pytest.mark.parametrize("kind", [*names.KINDS, "nonsense"])
def test_without_an_agent_it_is_silent(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CILIUMPY_RUN_DIR", str(tmp_path))
    monkeypatch.setattr("ciliumpy.client.target.BPFFS_DIR", tmp_path)
    assert (said(capsys, kind, "--lab", "none", "") == []) == (kind != "reasons")
    (tmp_path / "agent.json").write_text("{")
    assert (said(capsys, kind) == []) == (kind != "reasons")


def test_agents_that_hang_cost_one_time_out_together(running: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    deaf = [socket.socket(socket.AF_UNIX) for _ in range(12)]
    try:
        for number, listener in enumerate(deaf):
            path = running.run_dir / f"deaf{number}.sock"
            listener.bind(str(path))
            listener.listen()
            folder = running.run_dir / "labs" / "demo" / f"d{number}"
            folder.mkdir()
            (folder / "agent.json").write_text(json.dumps({"node": folder.name, "adminSocket": str(path)}))
        spec = {"name": "demo", "nodes": [{"name": f"d{number}"} for number in range(12)]}
        (running.run_dir / "labs" / "demo" / "lab.json").write_text(json.dumps(spec))
        began = time.monotonic()
        assert said(capsys, "pods") == []
        assert time.monotonic() - began < 12 * names.ALL_S
    finally:
        for listener in deaf:
            listener.close()


def test_a_name_that_is_more_than_a_word_is_left_out(running: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    db = running.databases["n1"]
    row = db.table(ENDPOINTS).get(3)
    with db.write() as txn:
        txn.upsert(ENDPOINTS, msgspec.structs.replace(row, pod="$(touch /tmp/x)"))
    assert said(capsys, "pods", "--node", "n1", "") == ["shop/api-1"]
