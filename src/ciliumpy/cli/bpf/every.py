# SPDX-License-Identifier: Apache-2.0
"""Reads one thing from every node's pinned maps."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ciliumpy.cli import query
from ciliumpy.cli.output import Problems
from ciliumpy.client import target
from ciliumpy.client.target import Target
from ciliumpy.kit.errors import CiliumpyError


def every(
    lab: str | None, node: str | None, read: Callable[[Target], list[dict[str, Any]]]
) -> tuple[list[dict[str, Any]], Problems]:
    """Return what `read` finds at each node, with its `node`, and whose maps could not be read.

    An error that all nodes give, or the only one, is raised as it is.
    """
    require_root()
    return query.each(target.select(lab, node, direct=True), read)


def require_root() -> None:
    if os.geteuid():
        raise CiliumpyError("reading BPF maps needs root", "run it with sudo")


def maps_of(of: Target) -> Path:
    """Return where a node's maps are pinned; CiliumpyError if there are none."""
    path = of.bpffs / "maps"
    if not path.is_dir():
        raise CiliumpyError(f"no maps are pinned in {path}", "has the agent of this node ever run?")
    return path
