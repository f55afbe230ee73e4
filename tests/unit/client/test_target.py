# SPDX-License-Identifier: Apache-2.0
"""Which agent is meant, from files alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ciliumpy.client import target
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import place


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CILIUMPY_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(target, "BPFFS_DIR", tmp_path / "bpf")
    return tmp_path


def make_host(run_dir: Path, node: str = "host1") -> None:
    said = {"node": node, "adminSocket": str(run_dir / "a.sock"), "version": "9", "pid": 7, "bpffs": "/x"}
    (run_dir / "agent.json").write_text(json.dumps(said))


def make_lab(run_dir: Path, name: str, nodes: list[str], running: list[str]) -> None:
    folder = run_dir / "labs" / name
    folder.mkdir(parents=True)
    (folder / "lab.json").write_text(json.dumps({"name": name, "nodes": [{"name": node} for node in nodes]}))
    for node in nodes:
        (folder / node).mkdir()
    for node in running:
        (folder / node / "agent.json").write_text(json.dumps({"node": node, "lab": name}))


def refused(**what: str) -> CiliumpyError:
    with pytest.raises(CiliumpyError) as error:
        target.select(**what)
    return error.value


def test_nothing_runs(run_dir: Path) -> None:
    assert refused().message == "no agent runs on this machine"


def test_the_host_comes_first(run_dir: Path) -> None:
    make_host(run_dir)
    make_lab(run_dir, "demo", ["n1"], ["n1"])
    (found,) = target.select()
    assert (found.node, found.lab, found.pid, found.version) == ("host1", "", 7, "9")
    assert found.admin_socket == run_dir / "a.sock"
    assert found.bpffs == Path("/x")


def test_the_only_lab(run_dir: Path) -> None:
    make_lab(run_dir, "demo", ["n2", "n1"], ["n1"])
    found = target.select()
    assert [(each.node, each.running) for each in found] == [("n1", True), ("n2", False)]
    assert found[1].admin_socket == run_dir / "labs/demo/n2/agent.sock"
    assert found[1].bpffs == run_dir / "bpf/labs/demo/n2"


def test_several_labs_must_be_named(run_dir: Path) -> None:
    make_lab(run_dir, "a", ["n1"], [])
    make_lab(run_dir, "b", ["n1"], [])
    error = refused()
    assert error.message == "there are several labs: a, b"
    assert error.exit_code == 2
    assert [each.lab for each in target.select(lab="b")] == ["b"]
    assert refused(node="n1").message == "there are several nodes 'n1': in lab a, lab b"
    assert target.select(lab="a", node="n1")[0].lab == "a"


def test_the_environment_names_a_lab(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_host(run_dir)
    make_lab(run_dir, "a", ["n1"], [])
    make_lab(run_dir, "b", ["n1"], [])
    monkeypatch.setenv("CILIUMPY_LAB", "b")
    assert [each.lab for each in target.select()] == ["b"]
    assert [each.lab for each in target.select(node="n1")] == ["b"]
    assert [each.lab for each in target.select(lab="a")] == ["a"]
    assert place.only_lab(None).name == "b"
    assert place.only_lab("a").name == "a"
    monkeypatch.setenv("CILIUMPY_LAB", "c")
    gone = "CILIUMPY_LAB=c: unset it, or start that lab with `ciliumpy lab up c`"
    assert refused().hint == gone
    with pytest.raises(CiliumpyError, match="there is no lab 'c'") as error:
        place.only_lab(None)
    assert (error.value.hint, error.value.exit_code) == (gone, 2)
    monkeypatch.setenv("CILIUMPY_LAB", "")
    assert [each.node for each in target.select()] == ["host1"]


def test_a_node_is_found_behind_the_host_too(run_dir: Path) -> None:
    make_host(run_dir)
    make_lab(run_dir, "demo", ["n1"], ["n1"])
    assert target.select(node="n1")[0].lab == "demo"
    assert target.select(node="host1")[0].lab == ""
    assert refused(node="n7").message == "there is no node 'n7' (nodes: host1, n1)"


def test_unknown_lab(run_dir: Path) -> None:
    make_lab(run_dir, "demo", ["n1"], [])
    assert refused(lab="other").message == "there is no lab 'other' (labs: demo)"


def test_one_is_wanted(run_dir: Path) -> None:
    make_lab(run_dir, "demo", ["n1", "n2"], [])
    with pytest.raises(CiliumpyError, match="asks one node, and there are several: n1, n2"):
        target.select_one()
    assert target.select_one(node="n2").node == "n2"


def test_pins_of_a_stopped_host_agent_can_be_read(run_dir: Path) -> None:
    (run_dir / "bpf/maps").mkdir(parents=True)
    (found,) = target.select(direct=True)
    assert (found.running, found.bpffs) == (False, run_dir / "bpf")
    assert refused().exit_code == 1


def test_a_broken_file_is_named(run_dir: Path) -> None:
    (run_dir / "agent.json").write_text("{")
    assert str(run_dir / "agent.json") in refused().message
    (run_dir / "agent.json").write_text("[]")
    assert refused().message.endswith("holds no object")
