# SPDX-License-Identifier: Apache-2.0
"""What an agent stands on: its node and its loaded programs. Laid in a thread while the rest is still imported."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.daemon import node
from ciliumpy.datapath import loader
from ciliumpy.store.directory.store import DirectoryStore

if TYPE_CHECKING:
    from ciliumpy.daemon.config import AgentConfig


class Ground(NamedTuple):
    store: DirectoryStore
    own: node.Own
    datapath: loader.Datapath


def begin(config: AgentConfig) -> asyncio.Future[Ground]:
    """Begin; the verifier alone takes half a second, in which Python can do other things."""
    return asyncio.get_running_loop().run_in_executor(None, _lay, config)


def _lay(config: AgentConfig) -> Ground:
    store = DirectoryStore(config.store.path)
    own = node.start(config, store)
    return Ground(store, own, loader.load(node.settings(config, own), config.bpffs))
