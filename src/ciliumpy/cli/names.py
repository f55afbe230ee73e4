# SPDX-License-Identifier: Apache-2.0
"""Names for completion: what there is on this machine now. `ciliumpy __complete KIND WORD...` prints one a line.

A shell asks this at every TAB: nothing heavy is loaded, an agent that does not answer at once is passed over, and
whatever goes wrong is silent. WORDs are the line so far, for its --lab and --node. Names come from manifests; one that
a shell could take for more than a word is left out.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ciliumpy.client import target
from ciliumpy.client.admin import AdminClient
from ciliumpy.client.target import Target
from ciliumpy.kit.errors import CiliumpyError

ALL_S = 0.25  # of all agents together
HARMLESS = re.compile(r"[A-Za-z0-9._:/@-]+")


def complete(arguments: Sequence[str]) -> int:
    """Print the names of a kind. The exit code is 0 whatever happens."""
    try:
        kind, line = arguments[0], list(arguments[1:])
        found = KINDS[kind](asked(line))
        names = [name for name in dict.fromkeys(found) if HARMLESS.fullmatch(name)]
        sys.stdout.write("".join(f"{name}\n" for name in names))
    except Exception:  # noqa: BLE001 - a shell that completes has nobody to tell
        return 0
    return 0


def asked(line: Sequence[str]) -> list[Target]:
    """Return the agents that a line means, all that there are if it does not say enough."""
    lab, node = said(line, "--lab"), said(line, "--node")
    try:
        return target.select(lab, node, direct=True)
    except CiliumpyError:
        return every()


def every() -> list[Target]:
    found: list[Target] = []
    for place in target.known():
        with suppress(CiliumpyError):
            found += target.targets(place)
    return found


def said(line: Sequence[str], flag: str) -> str | None:
    """Return the value of a flag on a line that is not finished."""
    for number, word in enumerate(line[:-1]):
        if word == flag:
            return line[number + 1] or None
        if word.startswith(f"{flag}="):
            return word.partition("=")[2] or None
    return None


def items(agents: Iterable[Target], path: str) -> Iterator[tuple[Target, Mapping[str, Any]]]:
    """Yield what the agents list, as long as there is time."""
    until = time.monotonic() + ALL_S
    for each in agents:
        left = until - time.monotonic()
        if left <= 0 or not each.running:
            continue
        try:
            answer = AdminClient.of(each, timeout_s=left).get(path)
        except CiliumpyError:
            continue
        for item in answer["items"]:
            yield each, item


def labs(_: Sequence[Target]) -> Iterable[str]:
    return target.labs()


def nodes(agents: Sequence[Target]) -> Iterable[str]:
    return [each.node for each in (every() if len(agents) < 2 else agents)]


def endpoints(agents: Sequence[Target]) -> Iterable[str]:
    """Numbers, with the node's name where there are several."""
    for agent, item in items(agents, "/v1/endpoints"):
        yield f"{agent.node}:{item['id']}" if len(agents) > 1 else str(item["id"])


def pods(agents: Sequence[Target]) -> Iterable[str]:
    return sorted(f"{item['namespace']}/{item['pod']}" for _, item in items(agents, "/v1/endpoints") if item["pod"])


def endpoints_or_pods(agents: Sequence[Target]) -> Iterable[str]:
    return [*endpoints(agents), *pods(agents)]


def nodes_or_pods(agents: Sequence[Target]) -> Iterable[str]:
    return [*nodes(agents), *pods(agents)]


def namespaces(agents: Sequence[Target]) -> Iterable[str]:
    return sorted(item["namespace"] for _, item in items(agents, "/v1/endpoints"))


def identities(agents: Sequence[Target]) -> Iterable[str]:
    for _, item in items(agents, "/v1/identities"):
        names = [label.removeprefix("reserved:") for label in item["labels"] if label.startswith("reserved:")]
        yield from names or [str(item["id"])]


def policies(agents: Sequence[Target]) -> Iterable[str]:
    for _, item in items(agents, "/v1/policies"):
        yield f"{item['namespace']}/{item['name']}" if item["namespace"] else item["name"]


def addresses(agents: Sequence[Target]) -> Iterable[str]:
    return (item["prefix"].partition("/")[0] for _, item in items(agents, "/v1/ipcache") if item["pod"])


def tables(agents: Sequence[Target]) -> Iterable[str]:
    return (item["name"] for _, item in items(agents, "/v1/statedb"))


def settings(agents: Sequence[Target]) -> Iterable[str]:
    return (item["key"] for _, item in items(agents, "/v1/config"))


def maps(agents: Sequence[Target]) -> Iterable[str]:
    for each in agents:
        try:
            yield from sorted(os.listdir(each.bpffs / "maps"))  # noqa: PTH208 - names are wanted, not paths
        except OSError:
            continue


def reasons(_: Sequence[Target]) -> Iterable[str]:
    from ciliumpy.model.drop_reasons import DROP_REASONS

    return (name for number, (name, _) in DROP_REASONS.items() if number and name)


KINDS: Mapping[str, Callable[[Sequence[Target]], Iterable[str]]] = {
    "labs": labs,
    "nodes": nodes,
    "endpoints": endpoints,
    "endpoints-or-pods": endpoints_or_pods,
    "nodes-or-pods": nodes_or_pods,
    "pods": pods,
    "namespaces": namespaces,
    "identities": identities,
    "policies": policies,
    "addresses": addresses,
    "tables": tables,
    "settings": settings,
    "maps": maps,
    "reasons": reasons,
}
