# SPDX-License-Identifier: Apache-2.0
"""The configuration of a real agent: where it came from, and what of it changes while the agent runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ciliumpy.cli.__main__ import main

from .agent_node import NODE4

pytestmark = pytest.mark.root
DEBUG = "DEBUG ciliumpy.api.admin: GET /v1/ipcache"


@pytest.fixture
def say(node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    monkeypatch.setenv("CILIUMPY_RUN_DIR", str(node.run))

    def run(*arguments: str, code: int = 0) -> str:
        assert main(arguments) == code, capsys.readouterr().err
        said = capsys.readouterr()
        return said.err if code else said.out

    return run


def items(text: str) -> list[dict]:
    return json.loads(text)["items"]


def test_the_log_level_changes_while_the_agent_runs_and_is_not_kept(node, say) -> None:
    before = node.config.read_bytes()
    say("ip", "list")
    assert DEBUG not in node.log()
    (setting,) = items(say("config", "set", "log.level", "debug", "-o", "json"))
    assert (setting["value"], setting["source"]) == ("debug", "run time")
    say("ip", "list")
    node.until(lambda: DEBUG in node.log())
    said = node.log().count(DEBUG)
    say("config", "log.level=error")
    assert "log.level is error from now on, until the next start" not in node.log(), "nor is that line of importance"
    say("ip", "list")
    assert node.log().count(DEBUG) == said
    assert "cannot be 'loud'" in say("config", "set", "log.level", "loud", code=1)
    assert "cannot be changed while the agent runs" in say("config", "set", "network.device", "eth1", code=1)
    node.stop()
    node.start()
    (setting,) = items(say("config", "get", "log.level", "-o", "json"))
    assert (setting["value"], setting["source"]) == ("info", "default")
    assert node.config.read_bytes() == before


def test_settings_say_where_they_came_from(node, say) -> None:
    found = {setting["key"]: setting for setting in items(say("config", "-o", "json"))}
    assert found["node.name"]["source"] == f"file {node.config}:1"
    left = {"conntrack.entries", "conntrack.unanswered", "maps.ipcache", "network.mtu"}
    assert {key for key in left if found[key]["value"] or not found[key]["effective"]} == set()
    assert found["network.attach"]["effective"] in {"tcx", "clsact"}
    assert found["network.underlay"]["effective"] == "ipv4"
    assert all(setting["description"] and setting["environment"] for setting in found.values())
    assert Path(found["store.path"]["value"]) == node.store


def test_addresses_of_a_node(node, say) -> None:
    pod = node.add("a")
    for address in pod.addresses:
        (entry,) = items(say("ip", "get", address, "-o", "json"))
        assert entry["prefix"].split("/")[0] == address
        assert (entry["namespace"], entry["pod"], entry["hostNode"]) == ("shop", "a", "n1")
        assert "k8s:app=a" in entry["labels"]
    listed = items(say("ip", "list", "-l", "app=a", "-o", "json"))
    assert {entry["prefix"].split("/")[0] for entry in listed} == set(pod.addresses)


def test_what_the_programs_were_told(node, say) -> None:
    told = {each["key"]: each["value"] for each in items(say("bpf", "config", "list", "-o", "json"))}
    assert (told["tunnel_port"], told["ipv4"], told["ipv6"]) == (8472, 1, 1)
    assert told["node_ip4"] == NODE4
    assert told["ct_timeout_tcp"] > told["ct_timeout_syn"] > 0
    assert "KEY" in say("bpf", "config", "list").splitlines()[0]
