# SPDX-License-Identifier: Apache-2.0
"""The datapath on other kernels than the running one, under qemu.

`UPDATE_INSTRUCTIONS=1 pytest tests/kernels` writes down anew what the verifiers walk.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from ciliumpy.bpf import build
from tests.kernels import instructions

if TYPE_CHECKING:
    from tests.kernels.conftest import Outcome

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]


def test_packet_tests_and_traffic_pass(outcome: Outcome) -> None:
    assert outcome.code == 0, outcome.output
    passed = re.search(r"(\d+) passed", outcome.output)
    assert passed, outcome.output
    assert int(passed[1]) > 150
    assert "skipped" not in outcome.output


def test_objects_of_every_compiler_load(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    """That they judge alike is a packet test. What the verifier walks is printed where it has changed."""
    numbers = build.installed_clangs()
    wanted = {*(f"clang-{number}" for number in numbers), f"clang-{min(numbers)}_wide"}
    assert set(outcome.instructions) == wanted, outcome.output
    known = instructions.read()
    if instructions.UPDATE:
        instructions.write(outcome.series, outcome.instructions)
    elif table := instructions.changes(known.get(outcome.series, {}), outcome.instructions):
        with capsys.disabled():
            print(f"\nLinux {outcome.release}: the verifier walks other numbers of instructions than are written down")
            print(table)
