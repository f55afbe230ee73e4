# SPDX-License-Identifier: Apache-2.0
"""Where no agent answers, each for a reason of its own, a command says the reasons and ends with 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from ciliumpy.cli import query
from ciliumpy.cli.__main__ import main
from ciliumpy.client import target
from ciliumpy.client.target import Target
from ciliumpy.kit.errors import CiliumpyError


@pytest.mark.parametrize("command", ["hubble status", "hubble status -o json", "endpoint get shop/db"])
def test_the_reasons_are_told(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two = [
        Target(n, "demo", tmp_path, running=True, admin_socket=tmp_path, hubble_socket=tmp_path, bpffs=tmp_path)
        for n in ("n1", "n2")
    ]

    def answers(targets: list[Target], _: object) -> list[CiliumpyError]:
        return [CiliumpyError(f"no permission for {each.node}.sock", "run it as root (sudo)") for each in targets]

    monkeypatch.setattr(target, "select", lambda *_: two)
    monkeypatch.setattr(query, "at_once", answers)
    assert main(command.split()) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "Error: node n1: no permission for n1.sock\nError: node n2: no permission for n2.sock\n"
        "hint: run it as root (sudo)\n"
    )
