# SPDX-License-Identifier: Apache-2.0
"""What the demo says before it does anything, and how it shows commands."""

from __future__ import annotations

import os
import subprocess

import pytest

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab.demo import tour


def test_without_root_nothing_is_announced(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CiliumpyError, match="needs root"):
        tour.tour()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("count", [1, 9, 10, 11, 40])
def test_commands_fit_and_can_be_pasted(count: int) -> None:
    words = ["printf", "%s\\n", *(f"--argument-{n}" for n in range(count))]
    shown = tour.wrapped("$ ", words)
    assert all(len(line) <= 80 for line in shown.splitlines())
    script = shown.removeprefix("$ ").replace("%s\\n", "'%s\\n'")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == words[2:]
