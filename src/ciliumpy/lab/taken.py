# SPDX-License-Identifier: Apache-2.0
"""Waits until the agents enforce what was written: who applies a policy and tries it at once sees it at work.

That goes for what policies name, too: services, their endpoints, CIDR groups.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.client import target
from ciliumpy.client.admin import AdminClient
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.store.kinds import POLICY_KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ciliumpy.lab.place import Place
    from ciliumpy.store.interface import Key

_TIMEOUT_S = 10.0
_UNCHANGED_S = 1.0  # a new text with the old meaning changes no row
_POLL_S = 0.02
# What policies name: the agents' tables of it.
_TABLES = {"Service": "services", "EndpointSlice": "endpoint-slices", "CiliumCIDRGroup": "cidr-groups"}
_KINDS = (*POLICY_KINDS, *_TABLES)


class _Row(NamedTuple):
    revision: int
    state: str
    error: str


class Policies:
    """Made before the change; `wait` after it."""

    def __init__(self, place: Place) -> None:
        self._clients: dict[str, AdminClient] = {}
        self._before: dict[str, dict[tuple[str, ...], _Row]] = {}
        for each in target.targets(place.name):
            if not each.running:
                continue
            client = AdminClient.of(each)
            with suppress(CiliumpyError):  # it was killed, and has not said so
                self._before[each.node] = _rows(client)
                self._clients[each.node] = client

    def wait(self, changes: Mapping[Key, str]) -> None:
        """Return when every agent has taken the changes: key -> created, configured, deleted or unchanged.

        An agent that does not answer is not waited for. CiliumpyError where one cannot enforce it, or not in time.
        """
        wanted = {tuple(key): what for key, what in changes.items() if key.kind in _KINDS and what != "unchanged"}
        if not wanted:
            return
        begin = time.monotonic()
        while late := self._late(wanted, time.monotonic() - begin):
            if time.monotonic() - begin > _TIMEOUT_S:
                raise CiliumpyError(
                    f"not in force within {_TIMEOUT_S:g} s: {', '.join(late)}", "`ciliumpy status` tells why"
                )
            time.sleep(_POLL_S)

    def _late(self, wanted: Mapping[tuple[str, ...], str], waited_s: float) -> list[str]:
        late = []
        for node, client in self._clients.items():
            try:
                now = _rows(client)
                behind = _is_behind(client)
            except CiliumpyError:
                continue
            for key, what in wanted.items():
                row, before = now.get(key), self._before[node].get(key)
                if behind and (what == "deleted" or key[0] in _TABLES):  # there is no row to tell
                    taken = False
                elif what == "deleted":
                    taken = row is None
                elif row is None or row.state == "pending":
                    taken = False
                else:
                    taken = before is None or row.revision > before.revision or waited_s > _UNCHANGED_S
                    if taken and row.state == "error":
                        raise CiliumpyError(f"{'/'.join(key)} is not in force on node {node}: {row.error}")
                if not taken:
                    late.append(f"{'/'.join(filter(None, key))} on node {node}")
        return late


def _is_behind(client: AdminClient) -> bool:
    """Whether the agent has yet to carry into the kernel what its tables say."""
    if client.get("/v1/status")["policy"].get("pending"):
        return True
    named = {prefix for item in client.get("/v1/statedb/cidr-groups")["items"] for prefix in item["row"]["prefixes"]}
    return bool(named) and not named <= {
        item["row"]["prefix"] for item in client.get("/v1/statedb/installed-prefixes")["items"]
    }


def _rows(client: AdminClient) -> dict[tuple[str, ...], _Row]:
    found: dict[tuple[str, ...], _Row] = {}
    for item in client.get("/v1/statedb/policies")["items"]:
        row: dict[str, Any] = item["row"]
        status = item.get("status", {})
        key = (row["kind"], row["namespace"], row["name"])
        found[key] = _Row(item["revision"], status.get("state", "done"), status.get("error", ""))
    for kind, table in _TABLES.items():
        for item in client.get(f"/v1/statedb/{table}")["items"]:
            key = (kind, item["row"].get("namespace", ""), item["row"]["name"])
            found[key] = _Row(item["revision"], "done", "")
    return found
