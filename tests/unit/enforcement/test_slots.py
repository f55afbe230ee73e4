# SPDX-License-Identifier: Apache-2.0
"""When a set that is complete in the kernel is in force."""

from __future__ import annotations

from ciliumpy.tables.datapath import KERNEL_ENDPOINTS
from tests.unit.enforcement.world import World, allow


async def test_a_policy_is_in_force_when_every_endpoint_has_turned_to_its_set():
    world = World()
    slots = world.db.table(KERNEL_ENDPOINTS)
    slots.reconciled = True
    world.identity(1000, "k8s:app=api")
    world.endpoint(3, 1000)
    world.endpoint(4, 1000)
    world.policy("p", allow("api", "web"))
    await world.settle()
    for number, pending in ((3, 1), (4, 0)):
        assert world.status("p")[0] == "pending", "its set is complete, what former ones decided still holds"
        assert world.controller.counts.pending == 1
        slots.set_status(number, slots.revision_of(number), "done")
        await world.controller.round()
        assert world.controller.counts.pending == pending
    assert world.status("p")[0] == "done"

    world.policy("p", allow("api", "web", 81))
    await world.settle()
    assert world.status("p")[0] == "pending"
    slots.set_status(3, slots.revision_of(3), "done")
    slots.set_status(4, slots.revision_of(4), "error", "says so itself")
    await world.controller.round()
    assert world.status("p")[0] == "done"
