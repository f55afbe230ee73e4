# SPDX-License-Identifier: Apache-2.0
"""Asks several agents one thing, all at once: the slowest decides how long it takes, not their number."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ciliumpy.cli.output import Problem, Problems
from ciliumpy.client.admin import AdminClient
from ciliumpy.client.target import Target
from ciliumpy.kit.errors import CiliumpyError

Items = list[dict[str, Any]]


def each(targets: Sequence[Target], ask: Callable[[Target], Items]) -> tuple[Items, Problems]:
    """Return what `ask` finds of all targets, each item with its `node` first, and which of them failed.

    An error that all of them give, or the only one, is raised as it is: it then has a hint.
    """
    answers = at_once(targets, ask)
    items: Items = []
    problems = Problems(len(targets))
    raised: list[CiliumpyError] = []
    for target, answer in zip(targets, answers, strict=True):
        if isinstance(answer, CiliumpyError):
            raised.append(answer)
            problems.append(Problem(target.node, answer.message, answer.hint or ""))
        else:
            items += [{"node": target.node, **item} for item in answer]
    if len(raised) == len(targets) and len({error.message for error in raised}) == 1:
        raise raised[0]
    return items, problems


def gather(targets: Sequence[Target], ask: Callable[[AdminClient], Items]) -> tuple[Items, Problems]:
    """Return what `ask` hears from all agents. See `each`."""
    return each(targets, lambda target: ask(AdminClient.of(target)))


def listing(targets: Sequence[Target], path: str) -> tuple[Items, Problems]:
    """Return the items that `path` lists at each agent."""
    return gather(targets, lambda client: client.get(path)["items"])


def at_once(targets: Sequence[Target], ask: Callable[[Target], Items]) -> list[Items | CiliumpyError]:
    """Return each target's answer or error, in the order of the targets; what is no CiliumpyError is raised."""
    answers: dict[int, Items | BaseException] = {}

    def answer(number: int) -> None:
        try:
            answers[number] = ask(targets[number])
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread that waits
            answers[number] = error

    if len(targets) == 1:
        answer(0)
    else:
        # Daemons: an interrupted command does not wait for an agent that hangs.
        threads = [threading.Thread(target=answer, args=(number,), daemon=True) for number in range(len(targets))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    said: list[Items | CiliumpyError] = []
    for number in range(len(targets)):
        found = answers[number]
        if isinstance(found, BaseException) and not isinstance(found, CiliumpyError):
            raise found
        said.append(found)
    return said
