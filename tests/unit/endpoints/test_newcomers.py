# SPDX-License-Identifier: Apache-2.0
"""Who has to wait for a new identity, and how long."""

from __future__ import annotations

from ciliumpy.endpoints.newcomers import Newcomers
from ciliumpy.tables.identities import Identity
from tests.unit.state.support import FakeClock


def test_a_new_identity_is_held_back_from_those_that_have_another():
    clock = FakeClock()
    newcomers = Newcomers(clock, 1.0)
    first, second = Identity(300, ("k8s:app=a",)), Identity(301, ("k8s:app=b",))
    assert newcomers.follow([first]) == {first.labels}
    assert newcomers.blocks(300, 299)
    assert not newcomers.blocks(300, 0), "a pod that is plugged in"
    assert not newcomers.blocks(300, 300), "a pod that has it: after a restart all are new"
    assert not newcomers.blocks(299, 300)
    clock.advance(0.6)
    assert newcomers.follow([second, first]) == {first.labels, second.labels}
    assert newcomers.wait_s() == 0.4, "being told of it again makes nobody younger"
    clock.advance(0.4)
    assert newcomers.follow([]) == {first.labels}
    assert not newcomers.blocks(300, 299)
    assert newcomers.blocks(301, 299)
    clock.advance(0.6)
    assert newcomers.follow([]) == {second.labels}
    assert newcomers.wait_s() is None
