# SPDX-License-Identifier: Apache-2.0
"""Expired conntrack rows go, also across the wrap of the clock; the interval follows what is found."""

from __future__ import annotations

import numpy as np
import pytest

from ciliumpy.datapath.ctgc import Collector, Round, next_interval

from .kernel import Kernel


def put(kernel: Kernel, name: str, number: int, expires: int) -> bytes:
    map_ = kernel.maps[name]
    key = bytes([number]) * map_.key_dtype.itemsize
    value = np.zeros((), map_.value_dtype)
    value["expires"] = expires & 0xFFFFFFFF
    map_.update(key, value.tobytes())
    return key


@pytest.mark.parametrize("now", [1000, 0, 0xFFFFFFFF, 5])
def test_expired_rows_go_and_live_ones_stay(kernel: Kernel, now: int) -> None:
    live = {put(kernel, "cp_ct4_v1", 1, now), put(kernel, "cp_ct4_v1", 2, now + 100)}
    put(kernel, "cp_ct4_v1", 3, now - 1)
    put(kernel, "cp_ct6_v1", 4, now - 100)
    put(kernel, "cp_ctu4_v1", 5, now - 1)
    asked = put(kernel, "cp_ctu6_v1", 6, now)
    collector = Collector(kernel.maps, lambda: now)
    assert collector.collect() == Round(6, 3)
    assert set(kernel.maps["cp_ct4_v1"].rows) == live
    assert not kernel.maps["cp_ct6_v1"].rows
    assert not kernel.maps["cp_ctu4_v1"].rows
    assert set(kernel.maps["cp_ctu6_v1"].rows) == {asked}
    assert collector.collect() == Round(3, 0)
    assert collector.entries() == {"cp_ct4_v1": 2, "cp_ct6_v1": 0, "cp_ctu4_v1": 0, "cp_ctu6_v1": 1}


def test_a_row_renewed_meanwhile_stays(kernel: Kernel) -> None:
    key = put(kernel, "cp_ct4_v1", 1, 10)
    map_ = kernel.maps["cp_ct4_v1"]
    items = map_.items

    def renewed():
        found = items()
        put(kernel, "cp_ct4_v1", 1, 200)
        return found

    map_.items = renewed
    assert Collector(kernel.maps, lambda: 100).collect() == Round(1, 0)
    assert key in map_.rows


@pytest.mark.parametrize(
    ("interval", "found", "wanted"),
    [
        (300, Round(100, 50), 150),
        (300, Round(100, 10), 300),
        (300, Round(100, 1), 450),
        (300, Round(0, 0), 450),
        (12, Round(100, 90), 10),
        (40000, Round(100, 0), 43200),
    ],
)
def test_interval(interval: float, found: Round, wanted: float) -> None:
    assert next_interval(interval, found) == pytest.approx(wanted)
