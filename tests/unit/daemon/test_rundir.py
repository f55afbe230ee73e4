# SPDX-License-Identifier: Apache-2.0
"""What is in the way in the run directory is said, without a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from ciliumpy.api.listener import listener
from ciliumpy.daemon import rundir
from ciliumpy.daemon.config import load
from ciliumpy.kit.errors import CiliumpyError


def test_a_lock_that_cannot_be_opened(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(f"paths: {{run: {tmp_path}/run, state: {tmp_path}/state}}\n")
    (tmp_path / "run" / "agent.lock").mkdir(parents=True)
    with pytest.raises(CiliumpyError, match=r"cannot open .*/agent.lock: "), rundir.prepared(load(file, {}).value):
        pytest.fail("it is not held")


def test_a_socket_whose_place_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "cni.sock"
    path.mkdir()
    with pytest.raises(CiliumpyError, match=f"cannot replace {path}: "), listener(path):
        pytest.fail("nobody listens")
    assert path.is_dir()


def test_an_announcement_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(f"paths: {{run: {tmp_path}/run}}\n")
    (tmp_path / "run" / "agent.json.tmp").mkdir(parents=True)
    with pytest.raises(CiliumpyError, match=r"cannot write .*/agent.json: "):
        rundir.announce(load(file, {}).value, 0)
