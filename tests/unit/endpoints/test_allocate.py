# SPDX-License-Identifier: Apache-2.0
"""Numbers are never mistaken for their former owner's; names and addresses are stable."""

from __future__ import annotations

import pytest

from ciliumpy.endpoints.allocate import MAX_SLOT, Slots, host_interface, macs
from ciliumpy.kit.errors import CiliumpyError

TICK = 1 << 26


def test_slots_go_round_and_generations_grow() -> None:
    slots = Slots()
    assert slots.allocate(set(), 100 * TICK) == (1, 100)
    assert slots.allocate({1}, 100 * TICK) == (2, 101)
    assert slots.allocate({2}, 200 * TICK) == (3, 200), "slot 1 is free, and rests"


def test_slots_wrap_and_skip_the_taken() -> None:
    slots = Slots()
    slots.restore(MAX_SLOT, 7)
    assert slots.allocate({1, 2}, 0) == (3, 8)


def test_every_slot_taken() -> None:
    with pytest.raises(CiliumpyError, match="all 4094 endpoint slots"):
        Slots().allocate(range(MAX_SLOT + 1), 0)


def test_a_restart_does_not_go_back() -> None:
    before = Slots().allocate(set(), 1000 * TICK)
    after = Slots().allocate(set(), 1001 * TICK)
    assert after[1] > before[1]


def test_names_and_macs() -> None:
    name = host_interface("c1", "eth0")
    assert name == host_interface("c1", "eth0")
    assert name != host_interface("c1", "eth1")
    assert name.startswith("lxc")
    assert len(name) == 15
    pod, host = macs("c1", "eth0", 1)
    assert pod != host
    assert (pod, host) != macs("c1", "eth0", 2)
    for mac in (pod, host):
        first = int(mac[:2], 16)
        assert first & 3 == 2, "locally administered, unicast"
        assert len(mac) == 17
