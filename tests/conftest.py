# SPDX-License-Identifier: Apache-2.0
"""What every test shares: root tests are skipped by name without root or BPF."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root and BPF")
    for item in items:
        if "root" in item.keywords or "kernel" in item.keywords:
            item.add_marker(skip)
