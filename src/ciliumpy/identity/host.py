# SPDX-License-Identifier: Apache-2.0
"""The labels of the host's identity: `reserved:host`, and those of this node that pass the label filter.

Where CIDRs match nodes, it has a prefix for each of the node's addresses too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ciliumpy.model.cidr import canonical, key_of
from ciliumpy.model.identity import Reserved, reserved_labels
from ciliumpy.model.labels import Label, LabelFilter, parse, texts
from ciliumpy.model.selectors import CIDR
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.identities import IDENTITIES, Identity
from ciliumpy.tables.source import NODES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ciliumpy.state.database import Database
    from ciliumpy.tables.source import Node

SOURCE = "node"


def host_labels(node: Iterable[tuple[str, str]], keep: LabelFilter, addresses: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the identity's labels for those of a node object, and of these addresses of it."""
    prefixes = [Label(CIDR, key_of(canonical(address))) for address in addresses]
    own = [Label(SOURCE, key, value) for key, value in node]
    return texts([*map(parse, reserved_labels(Reserved.HOST)), *(label for label in own if keep(label)), *prefixes])


class HostIdentity:
    """A job over NODES. `own` is the node as it was found at the start: its labels count until the store is read.

    `by_address`: CIDRs match nodes.
    `caught_up` is set when they are those that the store has.
    """

    def __init__(self, db: Database, own: Node, keep: LabelFilter | None = None, *, by_address: bool = False) -> None:
        self._db = db
        self._own = own
        self._keep = keep or LabelFilter()
        self._by_address = by_address
        self._nodes = db.table(NODES).observe("host identity")
        self.caught_up = asyncio.Event()
        self.step()

    async def run(self, ready: asyncio.Event) -> None:
        await ready.wait()
        while True:
            self.step()
            self.caught_up.set()
            await wait_any(self._nodes)

    def step(self) -> None:
        """Carry over the labels; a node whose object is gone keeps the last ones."""
        self._nodes.take()
        self._own = self._db.table(NODES).get(self._own.name) or self._own
        with self._db.write() as txn:
            labels = host_labels(self._own.labels, self._keep, self._own.internal_ips if self._by_address else ())
            row = Identity(int(Reserved.HOST), labels, reserved=True)
            txn.upsert(IDENTITIES, row)
