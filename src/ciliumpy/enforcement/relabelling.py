# SPDX-License-Identifier: Apache-2.0
"""Where CIDRs match pods: which prefixes have pods in them that are not known by them yet.

A pod gets the label of a longer prefix when its own node has heard of that prefix. Until this node's kernel judges it
by the new label, a policy that names the prefix is not what it says: an exception would be none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.model.cidr import PrefixSet
from ciliumpy.model.labels import parse
from ciliumpy.model.selectors import CIDR, network
from ciliumpy.tables.datapath import KERNEL_ENDPOINTS
from ciliumpy.tables.identities import IDENTITIES
from ciliumpy.tables.ipcache import IPCACHE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from ciliumpy.state.database import Database
    from ciliumpy.tables.ipcache import IPCacheEntry

PATIENCE_S = 10.0  # after that it is said


class Relabelling:
    """`late`: the prefixes among those looked for, each with a pod that is still known by another one."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._labels: dict[int, tuple[str, ...]] = {}
        self._since_s: dict[str, float] = {}
        self.late: dict[str, IPCacheEntry] = {}

    async def look(self, prefixes: Iterable[str], breathe: Callable[[], Awaitable[None]]) -> None:
        """See which of them are late: a look at every pod, if there is any prefix to look for."""
        texts, wanted = {network(prefix): prefix for prefix in prefixes}, PrefixSet()
        for member in texts:
            wanted.add(member)
        late: dict[str, IPCacheEntry] = {}
        slots: dict[str, int] = {}
        for slot in self._db.table(KERNEL_ENDPOINTS).all() if texts else ():
            slots |= {slot.ipv4: slot.identity, slot.ipv6: slot.identity}
        for row in self._db.table(IPCACHE).all() if texts else ():
            if row.source == "endpoint" and (within := list(wanted.containing(row.prefix))):
                # What it sends has its slot's identity, what is sent to it its address's.
                alike = slots.get(row.prefix.rpartition("/")[0], row.identity) == row.identity
                known = self._known(row) if alike else -1
                late |= {texts[each]: row for each in within if each[2] > known}
            await breathe()
        now_s = self._db.clock.monotonic_ns() / 1e9
        self._since_s = {prefix: self._since_s.get(prefix, now_s) for prefix in late}
        self.late = late

    def why(self, prefix: str) -> str:
        """Whom a prefix waits for, if it has for long; empty: it does not, or not yet."""
        row = self.late.get(prefix)
        if row is None or self._db.clock.monotonic_ns() / 1e9 - self._since_s[prefix] < PATIENCE_S:
            return ""
        return (
            f"it waits for pod {row.namespace}/{row.pod} on node {row.node or 'this one'} to get the label of prefix"
            f" {prefix}: its agent must run, with the same policy.cidrMatchMode"
        )

    def _known(self, row: IPCacheEntry) -> int:
        """The length of the prefix that the kernel knows an address by: -1 for none, 128 for who never has one."""
        identity, table = self._db.table(IDENTITIES).get(row.identity), self._db.table(IPCACHE)
        if identity is None or table.status(row.prefix).state != "done":
            return -1
        if any(label.startswith("reserved:") for label in identity.labels):
            return 128
        own = PrefixSet()
        for label in map(parse, identity.labels):
            if label.source == CIDR:
                own.add(network(label.key))
        return max((length for _, _, length in own.containing(row.prefix)), default=-1)
