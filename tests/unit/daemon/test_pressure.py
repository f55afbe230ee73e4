# SPDX-License-Identifier: Apache-2.0
"""Before a map is full it is said, with the setting that gives it more room."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ciliumpy.daemon import pressure
from ciliumpy.daemon.pressure import Fill

ROOM = {"cp_class_v2": 100, "cp_local_v1": 10, "cp_ct4_v1": 1000, "cp_ctu4_v1": 1000}
MAPS = {name: SimpleNamespace(max_entries=room) for name, room in ROOM.items()}


def test_every_map_says_how_full_it_is_and_what_gives_it_room() -> None:
    found = pressure.fills({"cp_local_v1": 1, "cp_class_v2": 33}, MAPS)
    assert found == [
        Fill("cp_class_v2", 33, 100, 0.33, "maps.policyClasses"),
        Fill("cp_local_v1", 1, 10, 0.1, ""),
    ]


@pytest.mark.parametrize(("rows", "warned"), [(79, 0), (80, 1), (100, 1)])
def test_it_warns_from_four_fifths_on(rows: int, warned: int) -> None:
    assert len([*pressure.warnings(pressure.fills({"cp_class_v2": rows}, MAPS))]) == warned


def test_a_warning_says_what_will_happen_and_what_to_do() -> None:
    entries = {"cp_class_v2": 81, "cp_local_v1": 9, "cp_ct4_v1": 900, "cp_ctu4_v1": 1000}
    assert dict(pressure.warnings(pressure.fills(entries, MAPS))) == {
        "map cp_class_v2": "81% full (81 of 100 rows): once it is, more is refused; "
        "maps.policyClasses gives it more room, at the next start",
        "map cp_ct4_v1": "90% full (900 of 1000 rows): once it is, flows that rest longest are forgotten; "
        "conntrack.entries gives it more room, at the next start",
        "map cp_local_v1": "90% full (9 of 10 rows): once it is, more is refused",
    }, "who has no answer yet pushes others of the kind out all the time"


@pytest.mark.parametrize(("used", "warned"), [(3276, False), (3277, True), (4096, True)])
def test_it_warns_before_selectors_run_out(used: int, warned: bool) -> None:
    assert bool([*pressure.selectors(used, 4096)]) is warned
