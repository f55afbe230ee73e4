# SPDX-License-Identifier: Apache-2.0
"""What every test shares: root tests are skipped by name without root or BPF, and whoever ends the run cleans up."""

from __future__ import annotations

import os
import signal

import pytest

# A shell's background job ignores interrupts and hands that on: what the tests start must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A run that is told to end, or loses its terminal, cleans up as one that is interrupted does.
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.default_int_handler)

os.environ.pop("CILIUMPY_LAB", None)  # of who runs the tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root and BPF")
    for item in items:
        if "root" in item.keywords or "kernel" in item.keywords:
            item.add_marker(skip)
