# SPDX-License-Identifier: Apache-2.0
"""A policy set goes in whole or not at all, is announced when it is complete, and leaves when nobody uses it."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from ciliumpy.bpf.names import SETTINGS
from ciliumpy.datapath import encode
from ciliumpy.datapath import policy as module
from ciliumpy.datapath.desired import DesiredEndpoints
from ciliumpy.datapath.epochs import Epochs
from ciliumpy.datapath.kernel import dump
from ciliumpy.datapath.policy import PolicyTarget
from ciliumpy.datapath.vectors import VectorTarget
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.tables.datapath import INSTALLED_SETS, KERNEL_ENDPOINTS
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.enforcement import POLICY_SETS, VECTORS, Level, PolicySet, PortClass, PortRow, SelectorVector

from .kernel import Kernel, until

MASK = (1 << 3).to_bytes(128, "little")
ALLOW = PortClass(11, (Level(2, mask=MASK),))
NOBODY = PortClass(12, (Level(1, everybody=True), Level(2, mask=MASK, proxy_port=10001)))


def make(number: int = 1, *, identity: int = 300, classes=(ALLOW, NOBODY), ports=None) -> PolicySet:
    if ports is None:
        ports = (
            PortRow(0, 6, 8080, 8080, 11),
            PortRow(0, 6, 1000, 2000, 12),
            PortRow(0, 6, 3000, 3005, 11),
            PortRow(1, 17, 53, 53, 12),
        )
    return PolicySet(number, identity, True, False, (12, 0), ports, classes, 1)


def put(db, *rows: PolicySet) -> None:
    with db.write() as txn:
        for row in rows:
            txn.upsert(POLICY_SETS, row)


class Users(set):
    """Set ids that slots in the kernel name."""

    def __call__(self, number: int) -> bool:
        return number in self


async def test_a_set_is_written_whole_and_then_announced(kernel: Kernel, db) -> None:
    target = PolicyTarget(db, kernel.maps, Epochs(kernel.maps), Users())
    row = make()
    put(db, row)
    assert await target.update([row]) == {}
    written = kernel.row("cp_set_v2", encode.u32(1))
    assert written["default_class"].tolist() == [12, 0]
    assert written["has_exact"].tolist() == [1, 1]
    assert written["has_ranges"].tolist() == [1, 0]
    key = encode.port_key(kernel.maps["cp_port_v1"], 1, row.ports[0])
    assert kernel.row("cp_port_v1", key) == 11
    ranges = kernel.row("cp_range_v1", encode.port_key(kernel.maps["cp_range_v1"], 1, row.ports[1]))
    assert ranges["count"] == 2
    assert [tuple(r)[:3] for r in ranges["range"][:2].tolist()] == [(1000, 2000, 12), (3000, 3005, 11)]
    levels = kernel.row("cp_class_v2", encode.u32(12))["level"]
    assert levels["verdict"][:3].tolist() == [1, 2, 0]
    assert levels["flags"][:2].tolist() == [1, 0]
    assert levels["proxy_port"][1] == 10001
    assert levels["mask"][1].tobytes() == MASK
    assert db.table(INSTALLED_SETS).get((300, None)).id == 1


async def test_the_set_comes_last(kernel: Kernel, db) -> None:
    target = PolicyTarget(db, kernel.maps, Epochs(kernel.maps), Users())
    order: list[str] = []
    for name in ("cp_class_v2", "cp_port_v1", "cp_range_v1", "cp_set_v2"):
        map_ = kernel.maps[name]
        map_.update = lambda key, value, flags=0, name=name: order.append(name)
    put(db, make())
    await target.update([make()])
    assert order[-1] == "cp_set_v2"
    assert set(order) == {"cp_class_v2", "cp_port_v1", "cp_range_v1", "cp_set_v2"}


@pytest.mark.parametrize("full", ["cp_class_v2", "cp_port_v1", "cp_range_v1", "cp_set_v2"])
async def test_a_set_that_finds_a_full_map_leaves_nothing_and_the_former_in_force(db, full: str) -> None:
    kernel = Kernel({full: 2})
    target = PolicyTarget(db, kernel.maps, Epochs(kernel.maps), Users())
    first = make(1, classes=(ALLOW,), ports=(PortRow(0, 6, 80, 80, 11), PortRow(0, 6, 90, 99, 11)))
    ports = (PortRow(0, 6, 7, 7, 20), PortRow(0, 6, 8, 9, 20))
    other = make(2, identity=301, classes=(PortClass(20, ALLOW.levels),), ports=ports)
    put(db, first, other)
    assert await target.update([first, other]) == {}
    before = {name: dict(map_.rows) for name, map_ in kernel.maps.items()}
    third = make(3, classes=(PortClass(30, ALLOW.levels),), ports=(PortRow(0, 6, 7, 7, 30), PortRow(0, 6, 8, 9, 30)))
    put(db, third)
    errors = await target.update([third])
    why = f"map {full} is full: all 2 rows are in use ({SETTINGS[full]} gives it more)"
    assert errors == {3: f"{why}; the former policy stays in force"}
    assert {name: dict(map_.rows) for name, map_ in kernel.maps.items()} == before
    assert db.table(INSTALLED_SETS).get((300, None)).id == 1
    assert not target.holds(3)


async def test_a_vector_that_the_kernel_refuses_holds_up_no_set_if_there_is_none_at_all(db) -> None:
    kernel = Kernel({"cp_vector_v1": 1})
    epochs = Epochs(kernel.maps)
    vectors = VectorTarget(kernel.maps, epochs)
    target = PolicyTarget(db, kernel.maps, epochs, Users(), vectors.holds)
    rows = [SelectorVector(300, MASK), SelectorVector(301, MASK)]
    with db.write() as txn:
        for row in rows:
            txn.upsert(VECTORS, row)
    errors = await vectors.update(rows)
    assert list(errors) == [301]
    table = db.table(VECTORS)
    table.set_status(300, table.revision_of(300), "done")
    table.set_status(301, table.revision_of(301), "error", errors[301])
    put(db, make())
    assert await target.update([make()]) == {}, "301 meets every deny of it, and nothing else"
    # Who has an old vector might meet an allow that is no longer for him.
    table.set_status(300, table.revision_of(300), "error", "no memory")
    with db.write() as txn:
        txn.upsert(VECTORS, SelectorVector(300, bytes(128)))
    table.set_status(300, table.revision_of(300), "error", "no memory")
    put(db, make(2))
    with pytest.raises(CiliumpyError, match="no memory"):
        await target.update([make(2)])


async def test_what_the_structs_cannot_hold_is_refused(kernel: Kernel, db) -> None:
    target = PolicyTarget(db, kernel.maps, Epochs(kernel.maps), Users())
    levels = make(1, classes=(PortClass(11, (Level(2, mask=MASK),) * 17),))
    ranges = make(2, ports=tuple(PortRow(0, 6, n * 10, n * 10 + 5, 11) for n in range(65)))
    errors = await target.update([levels, ranges])
    assert "17 levels of precedence on one port, 16 fit" in errors[1]
    assert "65 port ranges in one direction and protocol, 64 fit" in errors[2]
    assert dump(kernel.maps["cp_class_v2"]) == {}


async def test_a_set_waits_for_the_vectors_that_were_written_before(kernel: Kernel, db, running) -> None:
    target = PolicyTarget(db, kernel.maps, Epochs(kernel.maps), Users())
    with db.write() as txn:
        txn.upsert(VECTORS, SelectorVector(300, bytes(128)))
    put(db, make())
    running(target.update([make()]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert dump(kernel.maps["cp_set_v2"]) == {}
    table = db.table(VECTORS)
    table.set_status(300, table.revision_of(300), "done")
    await until(lambda: bool(dump(kernel.maps["cp_set_v2"])))


async def test_shared_classes_go_with_their_last_set(kernel: Kernel, db, running, monkeypatch) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.01)
    target = PolicyTarget(db, kernel.maps, Epochs(kernel.maps), users := Users())
    one, two = make(1), make(2, identity=301)
    put(db, one, two)
    await target.update([one, two])
    users |= {1, 2}
    running(target.sweep())
    await target.delete([one, two])
    await asyncio.sleep(0.05)
    assert target.holds(1), "a slot still names it"
    users.discard(1)
    await until(lambda: not target.holds(1))
    assert len(dump(kernel.maps["cp_class_v2"])) == 2
    users.discard(2)
    await until(lambda: not target.holds(2))
    for name in ("cp_class_v2", "cp_port_v1", "cp_range_v1", "cp_set_v2"):
        assert dump(kernel.maps[name]) == {}, name
    assert db.table(INSTALLED_SETS).all() == []


async def test_a_superseded_row_is_not_announced(kernel: Kernel, db) -> None:
    target = PolicyTarget(db, kernel.maps, Epochs(kernel.maps), Users())
    import msgspec

    row = make(1)
    put(db, msgspec.structs.replace(row, current=False))
    await target.update([row])
    assert db.table(INSTALLED_SETS).all() == []


async def test_a_former_agents_sets_stay_until_no_slot_names_them(kernel: Kernel, db, running, monkeypatch) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.01)
    former = PolicyTarget(db, kernel.maps, Epochs(kernel.maps), Users())
    put(db, make(7))
    await former.update([make(7)])
    users = Users({7})
    target = PolicyTarget(db, kernel.maps, Epochs(kernel.maps), users)
    assert target.highest_ids() == (7, 12)
    assert target.holds_former()
    row = own(8, 21, 22)
    put(db, row)
    await target.update([row])
    await target.prune([row])
    assert kernel.row("cp_set_v2", encode.u32(7)) is not None
    users.discard(7)
    running(target.sweep())
    await until(lambda: not target.holds_former())
    assert dump(kernel.maps["cp_set_v2"]).keys() == {encode.u32(8)}
    assert dump(kernel.maps["cp_class_v2"]).keys() == {encode.u32(21), encode.u32(22)}
    assert dump(kernel.maps["cp_port_v1"]) == {}


def own(number: int, *classes: int, identity: int = 300) -> PolicySet:
    """A set of those classes, the last of them its default."""
    made = make(number, identity=identity, classes=tuple(PortClass(one, NOBODY.levels) for one in classes), ports=())
    return replace(made, default_class=(classes[-1], 0))


async def test_former_sets_make_room_one_by_one(db, running, monkeypatch) -> None:
    """Where the second copy of all does not fit: what one lets go of is what the next needs. Shared classes stay."""
    monkeypatch.setattr(module, "GRACE_S", 0.01)
    kernel = Kernel({"cp_class_v2": 5})
    former = PolicyTarget(db, kernel.maps, Epochs(kernel.maps), Users())
    ports = (PortRow(0, 6, 80, 80, 10), PortRow(0, 6, 1000, 2000, 11))
    shared = PortClass(10, ALLOW.levels)
    olds = [
        replace(own(1, 11), classes=(shared, PortClass(11, NOBODY.levels)), ports=ports),
        replace(own(2, 12, identity=301), classes=(shared, PortClass(12, NOBODY.levels)), ports=ports[:1]),
    ]
    put(db, *olds)
    assert await former.update(olds) == {}
    users = Users({1, 2})
    target = PolicyTarget(db, kernel.maps, Epochs(kernel.maps), users)
    news = [own(3, 20, 21), own(4, 22, identity=301)]
    put(db, *news)
    assert set(await target.update(news)) == {4}, "no room yet"
    await target.prune(news)
    running(target.sweep())
    users -= {1}
    users |= {3}
    await until(lambda: kernel.row("cp_set_v2", encode.u32(1)) is None)
    await until(lambda: kernel.row("cp_class_v2", encode.u32(11)) is None)
    assert {int.from_bytes(key, "little") for key in dump(kernel.maps["cp_class_v2"])} == {10, 12, 20, 21}
    assert {key[0] for key in dump(kernel.maps["cp_port_v1"])} == {2}
    assert not dump(kernel.maps["cp_range_v1"])
    assert await target.update(news) == {}, "the other fits now"
    users -= {2}
    users |= {4}
    await until(lambda: not target.holds_former())
    assert {int.from_bytes(key, "little") for key in dump(kernel.maps["cp_class_v2"])} == {20, 21, 22}
    assert not dump(kernel.maps["cp_port_v1"])


async def test_without_the_meaning_of_bits_former_sets_are_dropped(kernel: Kernel, db) -> None:
    former = PolicyTarget(db, kernel.maps, Epochs(kernel.maps), Users())
    await former.update([make(7)])
    target = PolicyTarget(db, kernel.maps, Epochs(kernel.maps), Users({7}))
    assert target.drop_former() == 1
    assert dump(kernel.maps["cp_set_v2"]) == {}, "a missing set is a drop"


async def test_drift_is_repaired(kernel: Kernel, db) -> None:
    target = PolicyTarget(db, kernel.maps, Epochs(kernel.maps), Users())
    put(db, make())
    await target.update([make()])
    before = {name: dict(map_.rows) for name, map_ in kernel.maps.items() if name != "cp_epoch_v1"}
    assert await target.prune([make()]) == 0
    epoch = kernel.epoch()
    kernel.maps["cp_class_v2"].update(encode.u32(11), bytes(2176))
    kernel.maps["cp_class_v2"].update(encode.u32(99), bytes(2176))
    kernel.maps["cp_port_v1"].rows.clear()
    assert await target.prune([make()]) == 4
    assert {name: dict(map_.rows) for name, map_ in kernel.maps.items() if name != "cp_epoch_v1"} == before
    assert kernel.epoch() > epoch, "what was wrong decides no more"


def endpoint(number: int = 5, **other) -> Endpoint:
    values = {"identity": 300, "ipv4": "10.0.0.5", "state": "ready"} | other
    return Endpoint(number, 7, "n", "p", "c", "eth0", "lxc5", 45, 2, "0a:0", "0e:0", **values)


async def test_an_endpoint_gets_its_slot_with_its_set_and_keeps_the_former_until_the_next(kernel: Kernel, db) -> None:
    desired = DesiredEndpoints(db)
    target = PolicyTarget(db, kernel.maps, Epochs(kernel.maps), Users())
    slots = db.table(KERNEL_ENDPOINTS)
    with db.write() as txn:
        txn.upsert(ENDPOINTS, endpoint())
    desired.step()
    assert slots.all() == []
    put(db, make(1))
    await target.update([make(1)])
    desired.step()
    assert (slots.get(5).identity, slots.get(5).policy_set) == (300, 1)
    assert (slots.get(5).ingress_enforced, slots.get(5).egress_enforced) == (True, False)
    with db.write() as txn:
        txn.upsert(ENDPOINTS, endpoint(identity=301))
    desired.step()
    assert (slots.get(5).identity, slots.get(5).policy_set) == (300, 1)
    put(db, make(2, identity=301))
    await target.update([make(2, identity=301)])
    desired.step()
    assert (slots.get(5).identity, slots.get(5).policy_set) == (301, 2)
    with db.write() as txn:
        txn.delete(ENDPOINTS, 5)
    desired.step()
    assert slots.all() == []
