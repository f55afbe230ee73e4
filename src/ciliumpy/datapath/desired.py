# SPDX-License-Identifier: Apache-2.0
"""Joins endpoints and installed policy sets to the slots that the kernel shall have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.state.observer import wait_any
from ciliumpy.tables.datapath import INSTALLED_SETS, KERNEL_ENDPOINTS, InstalledSet, KernelEndpoint
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint

if TYPE_CHECKING:
    from ciliumpy.state.database import Database, WriteTransaction


def join(endpoint: Endpoint, policy: InstalledSet, *, audit: bool = False) -> KernelEndpoint:
    """Return the slot of an endpoint whose identity has that set. `audit`: where it says nothing itself."""
    return KernelEndpoint(
        slot=endpoint.id,
        generation=endpoint.generation,
        ifindex=endpoint.ifindex,
        peer_ifindex=endpoint.peer_ifindex,
        host_interface=endpoint.host_interface,
        identity=policy.identity,
        policy_set=policy.id,
        ingress_enforced=policy.ingress_enforced,
        egress_enforced=policy.egress_enforced,
        mac=endpoint.mac,
        host_mac=endpoint.host_mac,
        ipv4=endpoint.ipv4,
        ipv6=endpoint.ipv6,
        chained=endpoint.chained,
        audit=audit if endpoint.audit is None else endpoint.audit,
    )


class DesiredEndpoints:
    """A controller: ENDPOINTS and INSTALLED_SETS in, KERNEL_ENDPOINTS out."""

    def __init__(self, db: Database, *, audit: bool = False) -> None:
        self._db = db
        self._audit = audit
        self._endpoints = db.table(ENDPOINTS).observe("desired endpoints")
        self._sets = db.table(INSTALLED_SETS).observe("desired endpoints")

    async def run(self) -> None:
        while True:
            self.step()
            await wait_any(self._endpoints, self._sets)

    def step(self) -> None:
        """Carry over what changed."""
        endpoints, sets = self._endpoints.take(), self._sets.take()
        if not endpoints and not sets:
            return
        with self._db.write() as txn:
            for endpoint in endpoints:
                if endpoint.deleted:
                    txn.delete(KERNEL_ENDPOINTS, endpoint.row.id)
                else:
                    self._place(txn, endpoint.row)
            for policy in sets:
                if not policy.deleted:
                    for row in txn.by(ENDPOINTS, "identity", policy.row.identity):
                        self._place(txn, row)

    def _place(self, txn: WriteTransaction, endpoint: Endpoint) -> None:
        sets = txn.by(INSTALLED_SETS, "identity", endpoint.identity) if endpoint.identity else []
        own = [one for one in sets if one.named_ports is None or one.named_ports == endpoint.named_ports]
        policy = max(own, key=lambda one: one.id, default=None)
        if policy is not None:
            txn.upsert(KERNEL_ENDPOINTS, join(endpoint, policy, audit=self._audit))
            return
        # Its next set is still to come: the former stays in force, but not another endpoint's.
        former = txn.get(KERNEL_ENDPOINTS, endpoint.id)
        if former is not None and former.generation != endpoint.generation:
            txn.delete(KERNEL_ENDPOINTS, endpoint.id)
