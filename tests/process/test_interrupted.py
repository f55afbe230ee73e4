# SPDX-License-Identifier: Apache-2.0
"""A run of the tests that is ended from outside leaves nothing of its lab behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .lab_support import eventually, leftovers

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
HERE = Path(__file__).parent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_ended_leaves_nothing(number):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "test_lab.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        name = f"cpt{run.pid}"
        try:
            eventually(lambda: Path(f"/run/ciliumpy/labs/{name}/n1/agent.json").exists(), 40.0)
            assert leftovers(name) != [], "it is looked for in the right places"
            os.killpg(run.pid, number)
            said = run.communicate(timeout=40)[0]
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGINT)
                run.communicate(timeout=40)
    assert "KeyboardInterrupt" in said
    assert leftovers(name) == []
