# SPDX-License-Identifier: Apache-2.0
"""Errors, exit codes and closed pipes of the whole command, in a real process and in this one."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ciliumpy.cli.__main__ import main
from ciliumpy.cli.app import ROOT, Group, Verb
from ciliumpy.client import target
from ciliumpy.client.admin import AdminClient
from ciliumpy.kit.errors import CiliumpyError
from tests.golden.agents import Lab, lab


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("CILIUMPY_RUN_DIR", str(tmp_path))
    with lab(tmp_path) as built:
        yield built


def verbs(entries: dict[str, Verb | Group]) -> Iterator[Verb]:
    for entry in entries.values():
        if isinstance(entry, Group):
            yield from verbs(dict(entry.verbs))
        else:
            yield entry


@pytest.mark.parametrize("verb", [verb for part in ROOT.values() for verb in verbs(dict(part))], ids=lambda v: v.module)
def test_every_line_of_the_table_leads_to_a_verb(verb: Verb) -> None:
    run = importlib.import_module(verb.module).run
    assert run.__doc__
    assert verb.help.endswith(".")


def test_a_node_that_is_down(running: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    running.stop("n2")
    assert main(["endpoint", "list", "-o", "name"]) == 1
    said = capsys.readouterr()
    assert said.out == "endpoint/n1:3\nendpoint/n1:4\n"
    assert said.err.startswith("Error: node n2: the agent is not running\nhint: `ciliumpy lab start n2` starts it\n")
    assert main(["status", "--brief"]) == 1
    assert capsys.readouterr().out == "error in n2: the agent is not running\n"
    assert main(["endpoint", "list", "--node", "n2"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Error: the agent is not running\nhint: ")


def test_status_is_red(running: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    problem = {"severity": "error", "origin": "/store/p.yaml", "object": "CiliumNetworkPolicy/shop/api", "line": 7}
    problem |= {"field": "spec.ingress[0]", "message": "unknown field"}
    for node in ("n1", "n2"):
        running.statuses[node] |= {"state": "degraded", "problems": [problem]}
    running.statuses["n2"]["problems"] = [problem | {"severity": "notice", "line": 0, "field": ""}, problem]
    running.statuses["n2"]["jobs"] = [{"name": "flows", "state": "degraded", "message": "no ring", "restarts": 3}]
    assert main(["status"]) == 1
    shown = capsys.readouterr().out
    assert "n1     Degraded" in shown
    assert shown.partition("\n\n")[2].splitlines() == [
        "Problems: 2 errors, 1 notice",
        "  error on n1, n2: CiliumNetworkPolicy/shop/api spec.ingress[0]",
        "    unknown field",
        "    in /store/p.yaml:7",
        "  error on n2: job flows",
        "    no ring",
        "  notice on n2: CiliumNetworkPolicy/shop/api",
        "    unknown field",
        "    in /store/p.yaml",
    ]
    assert main(["status", "--brief", "--node", "n1"]) == 1
    assert capsys.readouterr().out == "error in n1: CiliumNetworkPolicy/shop/api spec.ingress[0]: unknown field\n"
    assert main(["status", "-o", "json"]) == 1


def test_status_waits_until_all_is_well(running: Lab) -> None:
    running.statuses["n1"]["state"] = "starting"
    command = [sys.executable, "-m", "ciliumpy.cli", "status", "--wait", "--brief"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert running.asked.wait(20)
        assert child.poll() is None
        running.statuses["n1"]["state"] = "ok"
        assert child.communicate(timeout=20)[0] == b"OK\n"
    assert child.returncode == 0


def test_status_waits_no_longer_than_it_should(running: Lab) -> None:
    running.statuses["n1"]["state"] = "starting"
    assert main(["status", "--wait", "--wait-duration", "300ms"]) == 1


def test_no_traceback_without_an_agent(tmp_path: Path) -> None:
    for arguments in (
        ["status"],
        ["endpoint", "list"],
        ["statedb", "dump", "pods"],
        ["config"],
        ["ip", "get", "::1"],
        ["bpf", "map", "list"],
    ):
        child = subprocess.run(
            [sys.executable, "-m", "ciliumpy.cli", *arguments],
            env={**os.environ, "CILIUMPY_RUN_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        if (arguments[0], child.returncode) != ("bpf", 0):  # pins of an agent of this machine may be there
            assert child.returncode == 1
            assert child.stderr.startswith("Error: ")
            assert "Traceback" not in child.stderr


def test_an_agent_of_another_version_is_named(running: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """It does not know a path, or its answer lacks what this version prints."""
    running.announce("n1", version="0.0.1")
    del running.statuses["n1"]["hubble"]
    assert main(["status", "--node", "n1"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "Error: the agent's answer has no 'hubble'",
        "hint: the agent is version 0.0.1; restart it with this one",
    ]
    running.announce("n1")
    with pytest.raises(KeyError):
        main(["status", "--node", "n1"])
    running.announce("n1", version="0.0.1")
    with pytest.raises(CiliumpyError, match=r"does not know /v1/later: it is version 0\.0\.1, and this command"):
        AdminClient.of(target.select(node="n1")[0]).get("/v1/later")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_another_user_is_told_to_be_root(running: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (running.run_dir, *running.run_dir.parents[:2]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        for arguments in (["endpoint", "list", "--node", "n1"], ["endpoint", "list"], ["status"]):
            assert main(arguments) == 1
            said = capsys.readouterr().err
            assert said.endswith("agent.sock\nhint: run it as root (sudo)\n")
            assert said.count("hint:") == 1
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_preflight_says_once_that_it_sees_more_as_root(capsys: pytest.CaptureFixture[str]) -> None:
    main(["preflight"])  # what it imports nobody may not read
    assert "run it as root" not in capsys.readouterr().out
    os.seteuid(65534)
    try:
        assert main(["preflight"]) == 1
    finally:
        os.seteuid(0)
    said = capsys.readouterr().out
    assert said.count("unknown ") > 1
    assert said.count("run it as root") == 1


def test_a_reader_that_goes_away(running: Lab) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "ciliumpy.cli", "endpoint", "list", "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout
    assert child.stderr
    child.stdout.close()
    assert child.wait(20) == 141
    assert child.stderr.read() == b""
    child.stderr.close()


def test_an_interrupt_is_quiet(running: Lab) -> None:
    running.statuses["n1"]["state"] = "starting"
    command = [sys.executable, "-m", "ciliumpy.cli", "status", "--wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert running.asked.wait(20)
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=20) == (b"", b"")
    assert child.returncode == 130


def test_two_labs_are_asked_about(running: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    other = running.run_dir / "labs" / "other"
    other.mkdir()
    (other / "lab.json").write_text('{"nodes": []}')
    assert main(["status"]) == 2
    assert capsys.readouterr().err == (
        "Error: there are several labs: demo, other\nhint: say which: --lab NAME, or export CILIUMPY_LAB=NAME\n"
    )
    assert main(["status", "--lab", "demo", "--brief"]) == 0
    running.stop("n2")
    assert main(["status", "--lab", "demo"]) == 1
    assert capsys.readouterr().err.endswith("hint: `ciliumpy lab start n2 --lab demo` starts it\n")


@pytest.mark.parametrize("arguments", [["version"], ["completion", "bash"], ["connectivity", "test", "--list"]])
def test_output_that_cannot_be_written_is_an_error_in_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ciliumpy.cli", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=30,
        )
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")


@pytest.mark.parametrize(("arguments", "closed", "code"), [("version", 1, 0), ("nosuch", 2, 2), ("version", 2, 0)])
def test_a_stream_that_was_closed_changes_nothing_else(arguments: str, closed: int, code: int) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -P -m ciliumpy.cli {arguments} {closed}>&-"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout if closed == 1 else done.stderr) == (code, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("config log.level", "; did you mean 'get log.level'?"),
        ("ip 10.244.1.3", "; did you mean 'get 10.244.1.3'?"),
        ("ip lst", "; did you mean 'list'?"),
        ("policy trace", ""),
        ("statedb 7", ""),
    ],
)
def test_an_object_without_a_verb(line: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    group, name = line.split()
    assert main([group, name]) == 2
    assert capsys.readouterr().err.startswith(f"Error: there is no command {name!r} in `ciliumpy {group}`{meant}\n")
