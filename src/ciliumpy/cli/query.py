# SPDX-License-Identifier: Apache-2.0
"""Asks several agents one thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ciliumpy.cli.output import Problem, Problems
from ciliumpy.client.admin import AdminClient
from ciliumpy.client.target import Target
from ciliumpy.kit.errors import CiliumpyError


def gather(
    targets: Sequence[Target], ask: Callable[[AdminClient], list[dict[str, Any]]]
) -> tuple[list[dict[str, Any]], Problems]:
    """Return what all agents answered, each item with its `node` first, and who did not answer.

    An error that all of them give, or the only one, is raised as it is: it then has a hint.
    """
    items: list[dict[str, Any]] = []
    problems = Problems(len(targets))
    raised: list[CiliumpyError] = []
    for target in targets:
        try:
            items += [{"node": target.node, **item} for item in ask(AdminClient.of(target))]
        except CiliumpyError as error:
            raised.append(error)
            problems.append(Problem(target.node, error.message, error.hint or ""))
    if len(raised) == len(targets) and len({error.message for error in raised}) == 1:
        raise raised[0]
    return items, problems


def listing(targets: Sequence[Target], path: str) -> tuple[list[dict[str, Any]], Problems]:
    """Return the items that `path` lists at each agent."""
    return gather(targets, lambda client: client.get(path)["items"])
