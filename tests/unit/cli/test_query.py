# SPDX-License-Identifier: Apache-2.0
"""Several agents are asked at once, and what one of them does not answer is no reason to lose the others' answers."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from ciliumpy.cli import query
from ciliumpy.client.admin import AdminClient
from ciliumpy.client.target import Target
from ciliumpy.kit.errors import CiliumpyError


def targets(folder: Path, count: int) -> list[Target]:
    return [
        Target(
            f"n{n}", "demo", folder, running=True, admin_socket=folder / f"{n}.sock", hubble_socket=folder, bpffs=folder
        )
        for n in range(count)
    ]


def test_all_are_asked_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(5)  # asked one after another, the first would wait for the others in vain

    def ask(target: Target) -> list[dict[str, object]]:
        together.wait(20)
        return [{"id": target.node}]

    items, problems = query.each(targets(tmp_path, 5), ask)
    assert items == [{"node": f"n{n}", "id": f"n{n}"} for n in range(5)]
    assert (list(problems), problems.asked) == ([], 5)


def test_dead_agents_cost_one_time_out(tmp_path: Path) -> None:
    """What listens and never answers, as a stopped process does."""
    every = targets(tmp_path, 8)
    deaf = [socket.socket(socket.AF_UNIX) for _ in every]
    try:
        for target, listener in zip(every, deaf, strict=True):
            listener.bind(str(target.admin_socket))
            listener.listen()
        began = time.monotonic()
        with pytest.raises(CiliumpyError, match=r"did not answer within 0\.5 s"):
            query.each(every, lambda target: AdminClient.of(target, timeout_s=0.5).get("/v1/endpoints"))
        assert time.monotonic() - began < 8 * 0.5
    finally:
        for listener in deaf:
            listener.close()


def test_one_that_fails_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    def ask(target: Target) -> list[dict[str, object]]:
        if target.node == "n1":
            raise CiliumpyError("it is down", "start it")
        return [{"id": 1}]

    items, problems = query.each(targets(tmp_path, 3), ask)
    assert [item["node"] for item in items] == ["n0", "n2"]
    assert [(problem.node, problem.message, problem.hint) for problem in problems] == [("n1", "it is down", "start it")]


def test_a_defect_in_one_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        query.each(targets(tmp_path, 2), lambda target: [{"id": 1 // 0}])
