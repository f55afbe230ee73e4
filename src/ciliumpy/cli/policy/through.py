# SPDX-License-Identifier: Apache-2.0
"""Changing the store through any agent that answers, and waiting until all of them have the change in force."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ciliumpy.cli.output import Item, Problems
from ciliumpy.cli.query import at_once
from ciliumpy.cli.terminal import printable
from ciliumpy.client.admin import AdminClient, RefusedError
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.kit.units import parse_duration

if TYPE_CHECKING:
    from ciliumpy.client.target import Target

T = TypeVar("T")

CHANGE_S = 120.0  # of an agent that writes: ten thousand objects take seconds
AGAIN_S = 0.1


class Late(NamedTuple):
    """Something that is not in force on a node: `what` it is, or empty for the node as a whole."""

    node: str
    what: str
    reason: str


def through_any(targets: Sequence[Target], ask: Callable[[AdminClient], T]) -> T:
    """Return what the first agent that can be asked answers. What it refuses, the others would refuse too."""
    failures: list[CiliumpyError] = []
    for each in targets:
        try:
            client = AdminClient.of(each, timeout_s=CHANGE_S)
            client.get("/v1/health")
        except CiliumpyError as error:
            failures.append(error)
            continue
        try:
            return ask(client)
        except RefusedError:
            raise
        except CiliumpyError as error:
            if "broke off" in error.message or "hung up" in error.message:
                hint = "all of it will be done or nothing: ask again, and what is done is `unchanged`"
                raise CiliumpyError(f"{each.node}: {error.message}", hint) from error
            raise
    raise failures[0]


def seconds(text: str, flag: str = "--timeout") -> float:
    """Return what a flag says; CiliumpyError (2) if it is no duration."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise CiliumpyError(f"{flag}: {error}", exit_code=2) from error


def wait(
    select: Callable[[], Sequence[Target]], asked: dict[str, Any], timeout_s: float, *, patient: bool = False
) -> tuple[list[Late], list[Late]]:
    """Wait until all nodes say that it is in force, alike. Return what is late, and which nodes do not answer.

    `asked` is the body of /v1/policies/wait, `select` finds the agents. `patient`: a node that does not answer is asked
    again until it does.
    """
    until = time.monotonic() + timeout_s
    while True:
        targets = select()
        left = max(until - time.monotonic(), 0.0)
        body = {**asked, "timeoutSeconds": left}

        def ask(each: Target, left: float = left, body: dict[str, Any] = body) -> list[dict[str, Any]]:
            return [AdminClient.of(each, timeout_s=left + CHANGE_S).post("/v1/policies/wait", body)]

        answers = at_once(targets, ask)
        late: list[Late] = []
        silent: list[Late] = []
        digests: dict[str, str] = {}
        for each, answer in zip(targets, answers, strict=True):
            if isinstance(answer, CiliumpyError):
                silent.append(Late(each.node, "", answer.message))
                continue
            digests[each.node] = answer[0]["digest"]
            late += [Late(each.node, full_key(one), one["reason"]) for one in answer[0]["late"]]
        if not late and not asked.get("revision") and len(set(digests.values())) > 1:
            first, *others = digests
            other = next(node for node in others if digests[node] != digests[first])
            late = [Late(other, "", f"the node knows other policies, or other versions, than {first}")]
        elif late or not (patient and silent):
            return late, silent
        if time.monotonic() > until:
            return late, silent
        time.sleep(AGAIN_S)


def full_key(item: Item) -> str:
    return "/".join(part for part in (item["kind"], item["namespace"], item["name"]) if part)


def say_late(late: Sequence[Late]) -> None:
    """Print on stderr what is not in force, a line each, at most twenty."""
    for each in late[:20]:
        parts = (f"node {each.node}", each.what, each.reason)
        sys.stderr.write(printable(": ".join(filter(None, parts))) + "\n")
    if len(late) > 20:
        sys.stderr.write(f"and {len(late) - 20} more\n")


def wait_and_tell(select: Callable[[], Sequence[Target]], wanted: list[dict[str, Any]], timeout_s: float) -> bool:
    """Wait for a change that was made; whether it is in force wherever an agent runs. Says on stderr what is not."""
    late, silent = wait(select, {"items": wanted}, timeout_s)
    sys.stdout.flush()
    for each in silent:
        sys.stderr.write(f"node {each.node}: {each.reason}; it takes the change when it runs\n")
    if late:
        sys.stderr.write(f"Error: not in force within {timeout_s:g} s\n")
        say_late(late)
    return not late


def print_changes(items: Sequence[Item], output: str) -> None:
    """Print what became of each object: `Kind/namespace/name created`, and its notices on stderr."""
    from ciliumpy.cli.output import Column, parse_format, show

    if parse_format(output).kind in ("text", "wide"):
        words = {"absent": "not found"}
        sys.stdout.write("".join(f"{full_key(item)} {words.get(item['change'], item['change'])}\n" for item in items))
        sys.stdout.flush()
        return
    columns: list[Column] = []
    from ciliumpy.cli.policy.naming import typed_name

    show("PolicyChangeList", items, columns, output, name=typed_name, alone=True, sort=full_key, errors=Problems(1))
