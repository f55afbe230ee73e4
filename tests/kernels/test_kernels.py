# SPDX-License-Identifier: Apache-2.0
"""The datapath on other kernels than the running one, under qemu."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kernels.conftest import Outcome

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]

VERIFIER_LIMIT = 1_000_000


def test_every_program_loads(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome.loaded, outcome.output
    assert {"pod", "overlay", "host", "netdev"} <= set(outcome.loaded["datapath.o"])
    with capsys.disabled():
        print(f"\nLinux {outcome.release}: instructions verified / in the kernel")
        for name, programs in outcome.loaded.items():
            for program, (walked, size) in programs.items():
                print(f"  {name:12} {program:8} {walked:>8,} / {size:>6,}")
    for programs in outcome.loaded.values():
        assert all(walked < VERIFIER_LIMIT / 2 for walked, _ in programs.values()), "half the limit is kept free"


def test_packet_tests_and_same_node_traffic_pass(outcome: Outcome) -> None:
    assert outcome.code == 0, outcome.output
    passed = re.search(r"(\d+) passed", outcome.output)
    assert passed, outcome.output
    assert int(passed[1]) > 50
    assert "skipped" not in outcome.output
