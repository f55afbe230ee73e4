# SPDX-License-Identifier: Apache-2.0
"""Finds the tests: every file in scenarios/ that has a TEST, or several TESTS. A new file is found by being there."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from ciliumpy.connectivity import scenarios

if TYPE_CHECKING:
    from ciliumpy.connectivity.plan import Test


def tests() -> list[Test]:
    """Return all tests in the order in which they run."""
    found: list[Test] = []
    for module in pkgutil.iter_modules(scenarios.__path__):
        loaded = import_module(f"{scenarios.__name__}.{module.name}")
        found += loaded.TESTS if hasattr(loaded, "TESTS") else [loaded.TEST]
    return sorted(found, key=lambda test: (test.order, test.name))
