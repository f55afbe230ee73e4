# SPDX-License-Identifier: Apache-2.0
"""What explains a failure: the flows, and what kernel and agents hold about the two ends, while it is still there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ciliumpy.connectivity.cluster import Cluster
    from ciliumpy.connectivity.seen import Conversation, Seen

MOST_LINES = 20  # of one table
CONNTRACK, POLICY_SETS, IPCACHE = ("bpf", "ct", "list"), ("bpf", "policy", "list"), ("bpf", "ipcache", "list")
ENDPOINTS, IDENTITIES, POLICIES = ("endpoint", "list"), ("identity", "list"), ("policy", "list")
COMMANDS: tuple[tuple[str, ...], ...] = (CONNTRACK, POLICY_SETS, IPCACHE, ENDPOINTS, IDENTITIES, POLICIES)


class Table(NamedTuple):
    """A heading and lines to print below it."""

    title: str
    lines: tuple[str, ...]


def flows(seen: Sequence[Seen]) -> Table:
    lines = tuple(flow.text for flow in seen[-MOST_LINES:])
    return Table("flows", lines or ("none",))


class Tables:
    """What the nodes' commands print, each asked once: for all failures of one moment."""

    def __init__(self, cluster: Cluster, nodes: Sequence[str]) -> None:
        jobs = [(node, command) for node in nodes for command in COMMANDS]
        with ThreadPoolExecutor(len(COMMANDS)) as pool:
            self._lines = dict(zip(jobs, pool.map(lambda job: _ask(cluster, *job), jobs), strict=True))

    def about(self, nodes: Sequence[str], there: Conversation, namespaces: Sequence[str]) -> list[Table]:
        """Return what these nodes hold of the conversation's two ends. What cannot be had says why."""
        return [table for node in nodes for table in self._node(node, there, namespaces)]

    def _node(self, node: str, there: Conversation, namespaces: Sequence[str]) -> list[Table]:
        ends = (there.source, there.target)

        def table(command: tuple[str, ...], lines: tuple[str, ...]) -> Table:
            return Table(f"{' '.join(command)} on {node}", lines)

        def rows(command: tuple[str, ...], wanted: Sequence[str], *, all_of: bool = False) -> Table:
            return table(command, pick(self._lines[node, command], wanted, all_of=all_of))

        endpoints = rows(ENDPOINTS, ends)
        local = {line.split()[0] for line in endpoints.lines if line[:1].isdigit()}
        sets = self._lines[node, POLICY_SETS]
        kept = tuple(line for line in sets[1:] if line[:1].isdigit() and line.split()[0] in local)[:MOST_LINES]
        return [
            rows(CONNTRACK, ends, all_of=True),
            table(POLICY_SETS, (*sets[:1], *kept) if kept else ("nothing",)),
            rows(IPCACHE, ends),
            endpoints,
            rows(IDENTITIES, namespaces),
            rows(POLICIES, namespaces),
        ]


def _ask(cluster: Cluster, node: str, command: Sequence[str]) -> tuple[str, ...]:
    try:
        return tuple(cluster.explain(node, *command).splitlines())
    except (CiliumpyError, OSError) as error:
        return (f"cannot be had: {error}",)


def pick(lines: Sequence[str], wanted: Sequence[str], *, all_of: bool = False) -> tuple[str, ...]:
    """PURE: the heading, and the rows that name one of the words, or all. An indented line goes on with that above."""
    rows: list[list[str]] = []
    for line in lines:
        if rows and not line[:1].strip():
            rows[-1].append(line)
        else:
            rows.append([line])
    head = rows.pop(0) if rows and rows[0][0].split(" ")[0].isupper() and "  " in rows[0][0] else []
    if lines and lines[0].startswith("cannot be had"):
        return tuple(lines)
    how = all if all_of else any
    kept = [line for row in rows if how(any(_names(line, word) for line in row) for word in wanted) for line in row]
    return (*head, *kept[:MOST_LINES]) if kept else ("nothing",)


def _names(line: str, word: str) -> bool:
    """Whether it stands there, and not as a part of a longer address or name."""
    at = line.find(word)
    while at >= 0:
        after = line[at + len(word) : at + len(word) + 1]
        before = line[at - 1 : at] if at else ""
        if not (after.isalnum() or before.isalnum() or before == "." or (after == "." and word[-1:].isdigit())):
            return True
        at = line.find(word, at + 1)
    return False
