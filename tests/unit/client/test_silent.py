# SPDX-License-Identifier: Apache-2.0
"""A Hubble server that takes connections and says nothing."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ciliumpy.client.observer import Server, get_flows
from ciliumpy.proto import observer_pb2


def test_a_server_that_listens_and_is_silent_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ciliumpy.client.observer.DIAL_S", 0.5)
    failed: list[tuple[str, str]] = []
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        server = Server("n1", str(tmp_path / "silent.sock"))
        assert list(get_flows([server], observer_pb2.GetFlowsRequest(), lambda *said: failed.append(said))) == []
    assert failed == [("n1", "the agent did not answer within 0.5 s")]
