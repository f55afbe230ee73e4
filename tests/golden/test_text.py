# SPDX-License-Identifier: Apache-2.0
"""What commands print, word for word.

`cli/*.txt` are sessions: `$ command`, its output, its exit code. UPDATE_GOLDEN=1 rewrites them.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from ciliumpy.cli.__main__ import main
from tests.golden.agents import Lab, lab

FILES = sorted((Path(__file__).parent / "cli").glob("*.txt"))
FITS_120 = {"endpoint", "ip"}
FITS_80 = {"status", "identity", "policy", "node", "statedb", "errors"}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Lab]:
    """Of its own for each session, which prints the same alone and after others that change something."""
    with lab(tmp_path) as built:
        yield built


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_session(file: Path, running: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CILIUMPY_RUN_DIR", str(running.run_dir))
    monkeypatch.chdir(Path(__file__).parent)
    wanted = file.read_text()
    got = ""
    for command in re.findall(r"^\$ ciliumpy (.*)$", wanted, re.MULTILINE):
        code = main(shlex.split(command))
        said = capsys.readouterr()
        got += f"$ ciliumpy {command}\n{said.out}{said.err}" + (f"[exit code {code}]\n" if code else "") + "\n"
    got = got.replace(str(running.run_dir), "RUN")
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(got)
    assert got == wanted


@pytest.mark.parametrize("file", [f for f in FILES if f.stem in FITS_80 | FITS_120], ids=lambda file: file.stem)
def test_default_text_fits(file: Path) -> None:
    columns = 80 if file.stem in FITS_80 else 120
    for session in file.read_text().split("\n$ "):
        command, _, printed = session.partition("\n")
        if "-o" not in command and "statedb dump" not in command:  # a table's columns are what they are
            assert [line for line in printed.splitlines() if len(line) > columns] == [], command
