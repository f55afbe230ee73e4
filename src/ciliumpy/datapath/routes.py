# SPDX-License-Identifier: Apache-2.0
"""Carries the host's routes to pod CIDRs into the main table. Other routes of the node are never touched."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.net import routes

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from ciliumpy.datapath.epochs import Epochs
    from ciliumpy.tables.datapath import Route


class RouteTarget:
    """Routes over one device, the host's door; all pod CIDRs there are ours."""

    def __init__(self, ifindex: int, mtu: int, epochs: Epochs) -> None:
        self._ifindex = ifindex
        self._mtu = mtu
        self._epochs = epochs

    async def update(self, rows: Sequence[Route]) -> Mapping[Hashable, str]:
        return await asyncio.to_thread(self._replace, rows)

    async def delete(self, rows: Sequence[Route]) -> Mapping[Hashable, str]:
        await asyncio.to_thread(self._delete, [row.destination for row in rows])
        return {}

    async def prune(self, rows: Sequence[Route]) -> int:
        return await asyncio.to_thread(self._repair, rows)

    def _replace(self, rows: Sequence[Route]) -> dict[Hashable, str]:
        errors: dict[Hashable, str] = {}
        for row in rows:
            try:
                routes.replace_route(row.destination, self._ifindex, src=row.source, mtu=self._mtu)
            except CiliumpyError as error:
                errors[row.destination] = error.message
        self._epochs.bump_global()
        return errors

    def _delete(self, destinations: Sequence[str]) -> None:
        for destination in destinations:
            routes.delete_route(destination, self._ifindex)
        self._epochs.bump_global()

    def _repair(self, rows: Sequence[Route]) -> int:
        present = routes.routes(self._ifindex)
        wanted = {row.destination: row for row in rows}
        there = {route.destination for route in present}
        missing = [row for destination, row in wanted.items() if destination not in there]
        # Ours say which address to send from; those that the kernel makes of the device's own addresses do not.
        extra = [route.destination for route in present if route.source and route.destination not in wanted]
        if missing:
            self._replace(missing)
        if extra:
            self._delete(extra)
        return len(missing) + len(extra)
