# SPDX-License-Identifier: Apache-2.0
"""The state of an endpoint as users know it. Derived when it is asked for, so that it cannot be out of date."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.tables.datapath import KERNEL_ENDPOINTS
from ciliumpy.tables.enforcement import POLICY_SETS

if TYPE_CHECKING:
    from ciliumpy.state.database import Database
    from ciliumpy.tables.endpoints import Endpoint

WAITING_FOR_IDENTITY = "waiting-for-identity"
REGENERATING = "regenerating"
RESTORING = "restoring"
DISCONNECTING = "disconnecting"
NOT_READY = "not-ready"
READY = "ready"


def shown_state(db: Database, row: Endpoint) -> tuple[str, str]:
    """Return (state, error): how far the endpoint's identity, policy and datapath are."""
    if row.state == DISCONNECTING or not row.identity:
        return row.state, row.error
    sets, kernel = db.table(POLICY_SETS), db.table(KERNEL_ENDPOINTS)
    for policy in sets.by("identity", row.identity):
        status = sets.status(policy.id)
        its_own = policy.named_ports in (None, row.named_ports)
        if policy.current and its_own and status.state == "error":
            return NOT_READY, status.error
    wanted = kernel.get(row.id)
    if wanted is None or wanted.generation != row.generation:
        return (RESTORING if row.state == RESTORING else REGENERATING), row.error
    status = kernel.status(row.id)
    if status.state == "error":
        return NOT_READY, status.error
    return (READY if status.state == "done" and wanted.identity == row.identity else REGENERATING), ""
