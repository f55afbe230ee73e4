# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy monitor` against the real admin API and the real pipeline, over rings without a kernel."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.unit.flows.events import AGGREGATE, API_IP, DEFAULT_DENIED, DROP, VISITOR, VISITOR_IP, event
from tests.unit.flows.rings import Loss

from .stream_agents import agents

DENIED = event(
    DROP,
    VISITOR_IP,
    API_IP,
    src_identity=VISITOR,
    src_endpoint=0,
    reason=133,
    ingress=(0, 0, 0, DEFAULT_DENIED),
    file=7,
    line=12,
)
DENIED_LINE = (
    "xx drop (Policy denied) flow # to endpoint 6, ifindex lxc000000000005, file policy.h:12, , "
    "identity 1003->1002: 10.244.1.9:40000 -> 10.244.0.6:8080 tcp SYN\n"
)


@contextmanager
def monitor(run_dir: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-m", "ciliumpy.cli", "monitor", *arguments],
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


def interrupted(child: subprocess.Popen[str]) -> tuple[str, str]:
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=10)
    assert child.returncode == 130
    return out, err


def test_events_as_cilium_prints_them(tmp_path: Path) -> None:
    with agents(tmp_path, "n1") as (agent,), monitor(tmp_path, "--type", "drop") as child:
        assert agent.asked.wait(10)
        agent.rings.put(event(AGGREGATE), DENIED, losses=[Loss(1, 1, 15, 999)])
        assert child.stdout is not None
        assert child.stdout.readline() == "CPU 01: Lost 15 events\n"
        assert re.sub("0x[0-9a-f]+", "#", child.stdout.readline()) == DENIED_LINE
        out, err = interrupted(child)
        assert out == ""
        assert err.startswith("Listening for events on 2 CPUs with 2x1048576 of shared memory\nPress Ctrl-C to quit\n")
        assert "Traceback" not in err


def test_all_nodes_with_their_names_and_as_json(tmp_path: Path) -> None:
    with agents(tmp_path, "n1", "n2") as (one, two), monitor(tmp_path, "-j", "--type", "drop") as child:
        assert one.asked.wait(10)
        assert two.asked.wait(10)
        two.rings.put(event(AGGREGATE, dst_endpoint=5), DENIED)
        assert child.stdout is not None
        record = json.loads(child.stdout.readline())
        assert (record["node"], record["type"], record["reason"], record["dstID"]) == ("n2", "drop", "Policy denied", 6)
        assert record["summary"]["l3"] == {"src": VISITOR_IP, "dst": API_IP}
        interrupted(child)
    # Both agents are gone: the streams end, and who was listening is told.


def test_an_agent_that_goes_is_told(tmp_path: Path) -> None:
    with agents(tmp_path, "n1") as (agent,):
        with monitor(tmp_path) as child:
            assert agent.asked.wait(10)
            agent.close()
            _, err = child.communicate(timeout=10)
            assert child.returncode == 1
            assert "Error: node n1:" in err
            assert "Traceback" not in err
        agent.close = lambda: None  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--type", "drops"], "Error: there is no event type 'drops'"),
        (["--lab", "other"], "Error: there is no lab 'other'"),
        (["--related-to", "5,api"], "Error: --related-to: 'api' is no endpoint"),
        (["-o", "yaml"], "Error: invalid output format 'yaml'"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: list[str], words: str) -> None:
    with monitor(tmp_path, *arguments) as child:
        out, err = child.communicate(timeout=10)
    assert (child.returncode, out) == (2, "")
    assert err.startswith(words)


def test_only_what_is_about_an_endpoint(tmp_path: Path) -> None:
    with agents(tmp_path, "n1") as (agent,):
        for arguments, wanted in (
            (["--related-to", "6,99"], [(5, 6), (0, 6), (6, 5), (7, 6)]),
            (["--related-to", "0"], [(0, 6)]),
            (["--from", "6"], [(6, 5)]),
            (["--from", "7", "--from=5"], [(5, 6), (7, 6)]),
            (["--to", "5", "--from", "7"], [(6, 5), (7, 6)]),
        ):
            agent.asked.clear()
            with monitor(tmp_path, *arguments, "-o", "json", "-t", "drop,trace") as child:
                assert agent.asked.wait(10)
                ends = [(5, 6), (0, 6), (6, 5), (7, 6)]
                agent.rings.put(*[event(AGGREGATE, VISITOR_IP, src_endpoint=a, dst_endpoint=b) for a, b in ends])
                assert child.stdout is not None
                records = [json.loads(child.stdout.readline()) for _ in wanted]
                assert [(record["source"], record["dstID"]) for record in records] == wanted
                assert interrupted(child)[0] == ""


def test_who_stops_reading_ends_it_quietly(tmp_path: Path) -> None:
    with agents(tmp_path, "n1") as (agent,), monitor(tmp_path, "-vv") as child:
        assert agent.asked.wait(10)
        assert child.stdout is not None
        agent.rings.put(DENIED)
        assert child.stdout.readline() == "-" * 78 + "\n"
        child.stdout.close()
        while child.poll() is None:
            agent.rings.put(DENIED)
            with suppress(subprocess.TimeoutExpired):
                child.wait(0.05)
        assert child.stderr is not None
        assert "Traceback" not in child.stderr.read()
        assert child.returncode == 141
        child.stdout = None
