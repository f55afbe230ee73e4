# SPDX-License-Identifier: Apache-2.0
"""A node with a running agent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .agent_node import AgentNode


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[object]:
    """Return a function that makes nodes; they are gone after the test."""
    from ciliumpy.datapath.loader import OBJECTS

    if not (OBJECTS / "datapath.o").exists():
        pytest.skip("the BPF objects are not built (make bpf)")
    from .agent_node import AgentNode

    made: list[AgentNode] = []

    def make(beside: AgentNode | None = None, **settings: dict[str, object]) -> AgentNode:
        folder = tmp_path / f"node{len(made)}"
        folder.mkdir()
        made.append(AgentNode(folder, settings, beside))
        return made[-1]

    try:
        yield make
    finally:
        for node in reversed(made):
            node.close()


@pytest.fixture
def node(make_node) -> AgentNode:
    node = make_node()
    node.start()
    return node
