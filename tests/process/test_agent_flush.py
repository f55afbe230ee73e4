# SPDX-License-Identifier: Apache-2.0
"""Forgetting flows under a real agent: what is allowed goes on, and nothing that is denied opens."""

from __future__ import annotations

import json
import socket

import pytest

from ciliumpy.cli.__main__ import main

from .agent_node import policy

pytestmark = pytest.mark.root


def test_a_flush_opens_nothing(node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CILIUMPY_RUN_DIR", str(node.run))

    def flush(*arguments: str) -> int:
        assert main(["bpf", "ct", "flush", "--yes", "-o", "json", *arguments]) == 0
        return sum(item["flushed"] for item in json.loads(capsys.readouterr().out)["items"])

    a, b, c = node.add("a"), node.add("b"), node.add("c")
    with b.listen(8080) as server:
        allowed, revoked = a.connect(b.addresses[0], 8080), c.connect(b.addresses[0], 8080)
        ends = [server.accept()[0] for _ in range(2)]
        node.apply("policy", policy("b-from-a", "b", peer="a"))
        node.until(lambda: node.policy_in_force("b"))
        assert flush("--ip", "10.9.9.9") == 0
        assert flush("--ip", a.addresses[0]) >= 1
        assert flush() >= 1, "the other flow's row"
        allowed.sendall(b"on")
        assert ends[0].recv(16) == b"on"
        ends[0].sendall(b"and back")
        assert allowed.recv(16) == b"and back"
        ends[1].settimeout(0.5)
        revoked.sendall(b"x")
        with pytest.raises(TimeoutError):
            ends[1].recv(16)
        assert not c.can_connect(b.addresses[0], 8080, 0.3)
        assert flush() >= 1
        assert not c.can_connect(b.addresses[0], 8080, 0.3)
        for each in (allowed, revoked, *ends):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
            each.close()


@pytest.mark.parametrize("family", [0, 1], ids=["v4", "v6"])
def test_whichever_end_speaks_first_goes_on(
    node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], family: int
) -> None:
    """The client takes no questions: without a row only its socket tells that what comes is an answer."""
    monkeypatch.setenv("CILIUMPY_RUN_DIR", str(node.run))
    a, b = node.add("a"), node.add("b")
    node.apply("policy", policy("a-from-nobody", "a", peer="nobody"))
    node.until(lambda: node.policy_in_force("a"))
    with b.listen(8080) as server:
        client = a.connect(b.addresses[family], 8080)
        end = server.accept()[0]
        client.settimeout(5)
        for _ in range(3):
            assert main(["bpf", "ct", "flush", "--yes"]) == 0
            end.sendall(b"first")
            assert client.recv(16) == b"first"
        client.close()
        end.close()
    capsys.readouterr()
    assert not b.can_connect(a.addresses[family], 8080, 0.3)
