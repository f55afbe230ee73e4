# SPDX-License-Identifier: Apache-2.0
"""Reads one thing from every node's pinned maps."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ciliumpy.cli.output import Problem, Problems
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
    targets = target.select(lab, node, direct=True)
    items: list[dict[str, Any]] = []
    problems = Problems(len(targets))
    raised: list[CiliumpyError] = []
    for each in targets:
        try:
            items += [{"node": each.node, **item} for item in read(each)]
        except CiliumpyError as error:
            raised.append(error)
            problems.append(Problem(each.node, error.message, error.hint or ""))
    if len(raised) == len(targets) and len({error.message for error in raised}) == 1:
        raise raised[0]
    return items, problems


def require_root() -> None:
    if os.geteuid():
        raise CiliumpyError("reading BPF maps needs root", "run it with sudo")


def maps_of(of: Target) -> Path:
    """Return where a node's maps are pinned; CiliumpyError if there are none."""
    path = of.bpffs / "maps"
    if not path.is_dir():
        raise CiliumpyError(f"no maps are pinned in {path}", "has the agent of this node ever run?")
    return path
