# SPDX-License-Identifier: Apache-2.0
"""Gives other nodes identities of their labels, where policies may name nodes: scope 2, which never leaves this node.

A node is `reserved:remote-node`, its labels (`node:…`) that pass the filter, and, where CIDRs match nodes, a prefix for
each of its addresses. One with nothing of its own has the reserved identity. Numbers are kept over a restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.identity.holdings import Holdings
from ciliumpy.identity.host import SOURCE
from ciliumpy.kit.backoff import Backoff
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.cidr import canonical, key_of
from ciliumpy.model.identity import SCOPE_REMOTE_NODE, Reserved, reserved_labels
from ciliumpy.model.labels import Label, LabelFilter, parse, texts
from ciliumpy.model.selectors import CIDR
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.identities import IDENTITIES, NODE_IDENTITIES, Identity, NodeIdentity
from ciliumpy.tables.ipcache import IPCACHE
from ciliumpy.tables.source import NODES

if TYPE_CHECKING:
    import asyncio

    from ciliumpy.identity.memory import Memory
    from ciliumpy.identity.numbers import Labels
    from ciliumpy.state.database import Database
    from ciliumpy.state.jobs import Job
    from ciliumpy.tables.source import Node

RETRY = Backoff(first_s=0.1, most_s=10.0)
LINGER_S = 60.0
NS = 1_000_000_000


def node_labels(node: Node, keep: LabelFilter, *, by_label: bool, by_address: bool) -> Labels | None:
    """Return the labels of another node's identity; None if it is a remote node like any other."""
    own = [label for key, value in node.labels if keep(label := Label(SOURCE, key, value))] if by_label else []
    own += [Label(CIDR, key_of(canonical(address))) for address in node.internal_ips] if by_address else []
    return texts([*map(parse, reserved_labels(Reserved.REMOTE_NODE)), *own]) if own else None


class NodeIdentities:
    """A job over NODES; the one writer of NODE_IDENTITIES. `by_label`, `by_address`: what nodes are told apart by."""

    def __init__(
        self,
        db: Database,
        own: str,
        *,
        keep: LabelFilter | None = None,
        by_label: bool = False,
        by_address: bool = False,
        memory: Memory | None = None,
        highest: int = 0,
    ) -> None:
        self._db = db
        self._own = own
        self._keep = keep or LabelFilter()
        self._by_label, self._by_address = by_label, by_address
        self._nodes = db.table(NODES).observe("node identities")
        self._holdings = Holdings(SCOPE_REMOTE_NODE, memory, highest)
        self._stale: set[str] = set(self._holdings.owners)
        with db.write() as txn:
            for number, labels in self._holdings.labels.items():
                txn.upsert(IDENTITIES, Identity(number, labels))
            for node, number in self._holdings.owners.items():
                txn.upsert(NODE_IDENTITIES, NodeIdentity(node, number))

    async def run(self, job: Job, ready: asyncio.Event) -> None:
        """Begin when the nodes are `ready`."""
        await ready.wait()
        failures = 0
        while True:
            try:
                self.step()
                failures = 0
                job.ok(f"{len(self._holdings)} identities of {len(self._holdings.owners)} nodes")
            except CiliumpyError as error:
                failures += 1
                job.degraded(f"{len(self._stale)} nodes have no identity of their own: {error.message}")
            timeout_s = RETRY.delay_s(failures) if failures else LINGER_S / 4 if self._holdings.idle else None
            await wait_any(self._nodes, timeout_s=timeout_s)

    def step(self) -> None:
        """Carry over what has changed. CiliumpyError: new labels have no number yet."""
        self._stale |= {change.row.name for change in self._nodes.take()}
        labels = {name: self._labels_of(name) for name in self._stale}
        self._holdings.change(labels, self._db.clock.monotonic_ns())
        self._stale.clear()
        with self._db.write() as txn:
            for name, wanted in labels.items():
                if wanted is None:
                    txn.delete(NODE_IDENTITIES, name)
                else:
                    txn.upsert(IDENTITIES, Identity(self._holdings.owners[name], wanted))
                    txn.upsert(NODE_IDENTITIES, NodeIdentity(name, self._holdings.owners[name]))
        self._collect()

    def _labels_of(self, name: str) -> Labels | None:
        node = self._db.table(NODES).get(name)
        if node is None or name == self._own:
            return None
        return node_labels(node, self._keep, by_label=self._by_label, by_address=self._by_address)

    def _collect(self) -> None:
        """Give up identities that no node has had for a while, and no address."""
        ipcache = self._db.table(IPCACHE)
        old = self._holdings.idle_before(self._db.clock.monotonic_ns() - int(LINGER_S * NS))
        gone = [number for number in old if not ipcache.by("identity", number)]
        if gone and not ipcache.leaving:
            self._holdings.forget(gone)
            with self._db.write() as txn:
                for number in gone:
                    txn.delete(IDENTITIES, number)
