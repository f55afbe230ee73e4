# SPDX-License-Identifier: Apache-2.0
"""A fake kernel with the layouts of the built object, a database, and the epochs."""

from __future__ import annotations

import asyncio

import pytest

from ciliumpy.datapath.epochs import Epochs
from ciliumpy.state.database import Database
from ciliumpy.tables.registry import ALL_TABLES

from .kernel import Kernel


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def epochs(kernel) -> Epochs:
    epochs = Epochs(kernel.maps)
    epochs.bump_all()
    return epochs


@pytest.fixture
def db() -> Database:
    return Database(ALL_TABLES)


@pytest.fixture
async def running():
    """Run a coroutine beside the test; it is cancelled afterwards."""
    tasks = []

    def start(coroutine):
        tasks.append(asyncio.get_running_loop().create_task(coroutine))

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
