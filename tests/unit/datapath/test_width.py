# SPDX-License-Identifier: Apache-2.0
"""From narrow to wide: both maps hold the same while programs of both kinds may ask them; an error leads nowhere."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from ciliumpy.bpf.names import NARROW, WIDE, Width
from ciliumpy.datapath import encode
from ciliumpy.datapath import width as module
from ciliumpy.datapath.epochs import Epochs
from ciliumpy.datapath.kernel import dump
from ciliumpy.datapath.policy import PolicyTarget
from ciliumpy.datapath.vectors import VectorTarget
from ciliumpy.datapath.width import Widening
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.tables.datapath import INSTALLED_WIDTH, InstalledWidth
from ciliumpy.tables.enforcement import WANTED_WIDTH, Level, PolicySet, PortClass, SelectorVector, WantedWidth

from .kernel import FakeMap, Kernel, until

LOW, HIGH = (1 << 3).to_bytes(128, "little"), (1 << 2000).to_bytes(512, "little")


class Programs:
    """Loaded programs that only take notes; `refuse` names the step that fails."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.maps: dict[str, FakeMap] = kernel.maps
        self.width: Width = NARROW
        self.log: list[str] = []
        self.refuse = ""
        self.sides: list[bool] = []  # at each step: are both maps alike?

    @property
    def moving(self) -> tuple[str, ...]:
        others = NARROW if self.width is WIDE else WIDE
        return tuple(name for name in others.maps if name in self.maps)

    def _note(self, step: str) -> None:
        self.log.append(step)
        if step == self.refuse:
            raise CiliumpyError(f"{step} fails")

    def load_wide(self) -> None:
        self._note("load")
        if WIDE.classes not in self.maps:
            self.maps |= self._kernel.wide_maps()

    def swap(self) -> None:
        self.sides.append(alike(self.maps))
        self.width = WIDE
        self._note("swap")

    def unpin_former(self) -> None:
        self.sides.append(alike(self.maps))
        self._note("unpin")

    def forget_former(self) -> None:
        for name in self.moving:
            del self.maps[name]


def alike(maps: dict[str, FakeMap]) -> bool:
    """Whether the wide maps say what the narrow ones do."""
    for name, copy in zip(NARROW.maps, WIDE.maps, strict=True):
        narrow, wide = dump(maps[name]), dump(maps[copy])
        if narrow.keys() != wide.keys():
            return False
        for key, value in narrow.items():
            one = np.frombuffer(value, maps[name].value_dtype)[0]
            other = np.frombuffer(wide[key], maps[copy].value_dtype)[0]
            masks = [(one["words"], other["words"])] if "words" in one.dtype.names else []
            if "level" in one.dtype.names:
                masks = list(zip(one["level"]["mask"], other["level"]["mask"], strict=True))
                plain = [field for field in one["level"].dtype.names if field != "mask"]
                if any((one["level"][field] != other["level"][field]).any() for field in plain):
                    return False
            if any((a != b[:16]).any() or b[16:].any() for a, b in masks):
                return False
    return True


def policy(number: int, mask: bytes) -> PolicySet:
    levels = (Level(1, everybody=True), Level(2, mask=mask, proxy_port=7), Level(1, mask=mask))
    return PolicySet(number, 300 + number, True, False, (number, 0), (), (PortClass(number, levels),), 1)


class World:
    def __init__(self, db, sizes: dict[str, int] | None = None) -> None:
        self.db = db
        self.kernel = Kernel(sizes)
        former = self.kernel.maps[NARROW.classes]  # of an agent before this one
        former.update(encode.u32(90), encode.class_value(former, PortClass(90, (Level(2, mask=LOW),))))
        epochs = Epochs(self.kernel.maps)
        self.programs = Programs(self.kernel)
        self.vectors = VectorTarget(self.kernel.maps, epochs)
        self.policy = PolicyTarget(db, self.kernel.maps, epochs, lambda _: False)
        self.widening = Widening(db, self.programs, self.vectors, self.policy)

    async def fill(self) -> None:
        assert await self.vectors.update([SelectorVector(300, LOW), SelectorVector(301, LOW)]) == {}
        assert await self.policy.update([policy(1, LOW), policy(2, LOW)]) == {}

    def want(self, bits: int = WIDE.bits) -> None:
        with self.db.write() as txn:
            txn.upsert(WANTED_WIDTH, WantedWidth(bits))

    @property
    def installed(self) -> InstalledWidth | None:
        return self.db.table(INSTALLED_WIDTH).get(0)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.0)


async def test_both_maps_hold_the_same_until_only_the_wide_ones_are_left(db) -> None:
    world = World(db)
    await world.fill()
    assert world.installed == InstalledWidth(1024)
    await world.widening.step()
    assert world.programs.log == [], "nobody asked"
    world.want()
    await world.widening.step()
    assert world.programs.log == ["load", "swap", "unpin"]
    assert world.programs.sides == [True, True]
    assert {name for name in world.programs.maps if "class" in name or "vector" in name} == {*WIDE.maps}
    assert await world.vectors.update([SelectorVector(302, HIGH)]) == {}
    assert await world.policy.update([policy(3, HIGH)]) == {}
    assert world.kernel.row(WIDE.vectors, encode.u32(302))["words"].tobytes() == HIGH
    assert world.kernel.row(WIDE.classes, encode.u32(3))["level"][1]["mask"].tobytes() == HIGH
    assert world.policy.entries()[WIDE.classes] == 3


async def test_what_is_written_on_the_way_is_in_both(db) -> None:
    world = World(db)
    await world.fill()
    world.want()
    world.programs.refuse = "swap"  # and so it stays between the two
    with pytest.raises(CiliumpyError):
        await world.widening.step()
    assert await world.vectors.update([SelectorVector(302, LOW), SelectorVector(300, bytes(128))]) == {}
    await world.vectors.delete([SelectorVector(301, LOW)])
    assert await world.policy.update([policy(3, LOW)]) == {}
    assert alike(world.programs.maps)
    world.kernel.maps[WIDE.classes].delete(encode.u32(2))
    world.kernel.maps[WIDE.vectors].delete(encode.u32(300))
    await world.policy.prune([policy(1, LOW), policy(2, LOW), policy(3, LOW)])
    await world.vectors.prune([SelectorVector(302, LOW), SelectorVector(300, bytes(128))])
    assert alike(world.programs.maps)
    assert {int.from_bytes(key, "little") for key in dump(world.kernel.maps[WIDE.classes])} == {1, 2, 3}
    await asyncio.to_thread(world.policy._remove, 1)
    assert alike(world.programs.maps)
    assert world.widening.bits == 1024, "not all programs have more"
    assert "above the 1024" in (await world.policy.update([policy(4, HIGH)]))[4]
    world.programs.refuse = ""
    await world.widening.step()
    assert world.widening.bits == 4096
    assert (await world.policy.update([policy(4, HIGH)])) == {}


async def test_a_map_that_does_not_take_the_copy_stops_it_before_any_program_is_swapped(db) -> None:
    world = World(db, {WIDE.classes: 2})
    await world.fill()
    world.want()
    with pytest.raises(CiliumpyError, match="cannot be copied into cp_class4k_v2: map cp_class4k_v2 is full"):
        await world.widening.step()
    assert world.programs.log == ["load"]
    assert await world.policy.update([policy(3, LOW)]) == {}, "the narrow programs go on"


async def test_rows_that_an_attempt_before_left_behind_are_gone(db) -> None:
    world = World(db)
    await world.fill()
    world.programs.load_wide()
    stale = world.programs.maps[WIDE.vectors]
    stale.update(encode.u32(77), HIGH)
    stale.update(encode.u32(300), HIGH)
    world.want()
    await world.widening.step()
    assert world.programs.sides == [True, True]


class Job:
    """Where a job says how it is."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def ok(self, text: str) -> None:
        self.said.append(text)

    def degraded(self, text: str) -> None:
        self.said.append(f"degraded: {text}")


async def test_the_job_says_why_there_are_not_more_and_tries_again(db, running, monkeypatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    world, job = World(db), Job()
    world.programs.refuse = "load"
    running(world.widening.run(job))
    world.want()
    await until(lambda: world.programs.log.count("load") > 2)
    assert world.installed == InstalledWidth(1024, "load fails")
    assert job.said[-1] == "degraded: load fails"
    world.programs.refuse = ""
    await until(lambda: world.installed == InstalledWidth(4096))
    assert job.said[-1] == "4096 selector bits"


async def test_an_agent_that_starts_between_the_two_goes_on(db, running) -> None:
    world = World(db)
    world.programs.load_wide()
    world.programs.width = WIDE
    epochs = Epochs(world.kernel.maps)
    vectors = VectorTarget(world.programs.maps, epochs)
    target = PolicyTarget(db, world.programs.maps, epochs, lambda _: False)
    again = Widening(db, world.programs, vectors, target)
    assert again.bits == 1024
    assert vectors.names == [NARROW.vectors, WIDE.vectors]
    running(again.run(Job()))
    await until(lambda: world.installed == InstalledWidth(4096))
    assert (world.programs.log[-2:], vectors.names) == (["swap", "unpin"], [WIDE.vectors])
