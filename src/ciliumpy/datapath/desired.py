# SPDX-License-Identifier: Apache-2.0
"""Joins endpoints and installed policy sets to the slots that the kernel shall have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.state.observer import wait_any
from ciliumpy.tables.datapath import INSTALLED_SETS, KERNEL_ENDPOINTS, InstalledSet, KernelEndpoint
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.enforcement import CALLED_PODS, CALLED_WAIT_S

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
        self._called = db.table(CALLED_PODS).observe("desired endpoints")
        self._early: dict[int, tuple[int, int]] = {}  # endpoint -> identity that it shall not have yet, since when

    async def run(self) -> None:
        while True:
            self.step()
            timeout_s = CALLED_WAIT_S / 10 if self._early else None
            await wait_any(self._endpoints, self._sets, self._called, timeout_s=timeout_s)

    def step(self) -> None:
        """Carry over what changed."""
        endpoints, sets = self._endpoints.take(), self._sets.take()
        self._called.take()
        if not endpoints and not sets and not self._early:
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
            for number in list(self._early):
                early = txn.get(ENDPOINTS, number)
                if early is None:
                    del self._early[number]
                else:
                    self._place(txn, early)

    def _is_early(self, txn: WriteTransaction, endpoint: Endpoint) -> bool:
        """Whether it is called by its ports as the one that it was: at the new one policies would not find them."""
        former = txn.get(KERNEL_ENDPOINTS, endpoint.id)
        called = txn.get(CALLED_PODS, (endpoint.namespace, endpoint.pod))
        if (
            not endpoint.named_ports
            or former is None
            or former.generation != endpoint.generation
            or former.identity == endpoint.identity
            or (called is not None and called.identity == endpoint.identity)
        ):
            self._early.pop(endpoint.id, None)
            return False
        now = self._db.clock.monotonic_ns()
        identity, since = self._early.get(endpoint.id, (0, now))
        self._early[endpoint.id] = (endpoint.identity, since if identity == endpoint.identity else now)
        return now - self._early[endpoint.id][1] < CALLED_WAIT_S * 1e9

    def _place(self, txn: WriteTransaction, endpoint: Endpoint) -> None:
        sets = txn.by(INSTALLED_SETS, "identity", endpoint.identity) if endpoint.identity else []
        own = [one for one in sets if one.named_ports is None or one.named_ports == endpoint.named_ports]
        policy = max(own, key=lambda one: one.id, default=None)
        if policy is not None and self._is_early(txn, endpoint):
            return
        if policy is not None:
            txn.upsert(KERNEL_ENDPOINTS, join(endpoint, policy, audit=self._audit))
            return
        # Its next set is still to come: the former stays in force, but not another endpoint's.
        former = txn.get(KERNEL_ENDPOINTS, endpoint.id)
        if former is not None and former.generation != endpoint.generation:
            txn.delete(KERNEL_ENDPOINTS, endpoint.id)
