# SPDX-License-Identifier: Apache-2.0
"""Whether endpoints are judged by a policy set: one that is complete in the kernel is not in force yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.tables.datapath import KERNEL_ENDPOINTS
from ciliumpy.tables.endpoints import ENDPOINTS

if TYPE_CHECKING:
    from ciliumpy.state.database import Database
    from ciliumpy.tables.datapath import InstalledSet


def turning(db: Database, policy: InstalledSet) -> bool:
    """Return whether a slot of the kernel has yet to turn to the set, or what was decided by its former one to end.

    An endpoint without a slot is closed. One whose slot cannot be written says so itself, and is not waited for.
    """
    slots = db.table(KERNEL_ENDPOINTS)
    for endpoint in db.table(ENDPOINTS).by("identity", policy.identity):
        slot = slots.get(endpoint.id)
        if slot is None or policy.named_ports not in (None, endpoint.named_ports):
            continue
        # Numbers only grow, and of two that are for an endpoint the higher one is the newer.
        if slot.identity != policy.identity or slot.policy_set < policy.id:
            return True
        if slots.reconciled and slots.status(endpoint.id).state == "pending":
            return True
    return False
