# SPDX-License-Identifier: Apache-2.0
"""The labels of the host's identity: `reserved:host`, and those of this node that pass the label filter."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ciliumpy.model.identity import Reserved, reserved_labels
from ciliumpy.model.labels import Label, LabelFilter, parse, texts
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.identities import IDENTITIES, Identity
from ciliumpy.tables.source import NODES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ciliumpy.state.database import Database
    from ciliumpy.tables.source import Node

SOURCE = "node"


def host_labels(node: Iterable[tuple[str, str]], keep: LabelFilter) -> tuple[str, ...]:
    """Return the identity's labels for those of a node object."""
    own = [Label(SOURCE, key, value) for key, value in node]
    return texts([*map(parse, reserved_labels(Reserved.HOST)), *(label for label in own if keep(label))])


class HostIdentity:
    """A job over NODES. `own` is the node as it was found at the start: its labels count until the store is read.

    `caught_up` is set when they are those that the store has.
    """

    def __init__(self, db: Database, own: Node, keep: LabelFilter | None = None) -> None:
        self._db = db
        self._own = own
        self._keep = keep or LabelFilter()
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
            row = Identity(int(Reserved.HOST), host_labels(self._own.labels, self._keep), reserved=True)
            txn.upsert(IDENTITIES, row)
