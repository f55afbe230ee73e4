# SPDX-License-Identifier: Apache-2.0
"""What the targets write, in which order, and what they say when the kernel refuses."""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest

from ciliumpy.datapath import encode
from ciliumpy.datapath.endpoints import EndpointTarget
from ciliumpy.datapath.epochs import Epochs
from ciliumpy.datapath.ipcache import IPCacheTarget
from ciliumpy.datapath.kernel import dump
from ciliumpy.datapath.vectors import VectorTarget
from ciliumpy.tables.datapath import KernelEndpoint
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.enforcement import VECTORS, SelectorVector
from ciliumpy.tables.ipcache import IPCacheEntry

from .kernel import Doors, Kernel, until


def slot(number: int = 5, *, generation: int = 7, policy_set: int = 3, **other) -> KernelEndpoint:
    values = {
        "slot": number,
        "generation": generation,
        "ifindex": 40 + number,
        "peer_ifindex": 2,
        "host_interface": f"lxc{number}",
        "identity": 300,
        "policy_set": policy_set,
        "ingress_enforced": True,
        "egress_enforced": False,
        "mac": "0a:00:00:00:00:01",
        "host_mac": "0e:00:00:00:00:02",
        "ipv4": f"10.0.0.{number}",
        "ipv6": f"fd00::{number}",
    }
    return KernelEndpoint(**(values | other))


def vector(db, identity: int, *, done: bool = True) -> None:
    row = SelectorVector(identity, bytes(128))
    with db.write() as txn:
        txn.upsert(VECTORS, row)
    if done:
        table = db.table(VECTORS)
        table.set_status(identity, table.revision_of(identity), "done")


# ---- epochs ----------------------------------------------------------------------------------------------------------


def test_a_new_epoch_map_is_never_left_at_zero(kernel: Kernel) -> None:
    epochs = Epochs(kernel.maps)
    assert epochs.is_fresh()
    epochs.bump_all()
    assert not epochs.is_fresh()
    assert (kernel.epoch(), kernel.slot_epoch(0), kernel.slot_epoch(4095)) == (1, 1, 1)
    epochs.bump_endpoints([9])
    epochs.bump_global()
    epochs.bump_all()
    assert (kernel.epoch(), kernel.slot_epoch(9), kernel.slot_epoch(8)) == (3, 3, 2)


@pytest.mark.parametrize("name", ["cp_epoch_v1", "cp_epepoch_v1", "cp_ipepoch_v1"])
def test_conntrack_is_of_another_time_if_any_map_of_epochs_is_new(kernel: Kernel, name: str) -> None:
    epochs = Epochs(kernel.maps)
    epochs.bump_all()
    rows = kernel.maps[name].rows
    rows.update(dict.fromkeys(rows, bytes(8)))
    assert epochs.is_fresh()


@pytest.mark.parametrize(
    "bump",
    [
        Epochs.bump_all,
        Epochs.bump_global,
        lambda epochs: epochs.bump_endpoints([5]),
        lambda epochs: epochs.bump_peers(["10.0.1.0/24"]),
        lambda epochs: epochs.bump_peers([f"10.0.{net}.0/24" for net in range(100)]),
    ],
)
def test_threads_that_bump_do_not_undo_each_other(kernel: Kernel, epochs: Epochs, bump) -> None:
    """One reads an epoch; before it writes, another bumps twice: what it writes then would be one that was passed."""
    others: list[threading.Thread] = []

    def twice() -> None:
        for _ in range(2):
            epochs.bump_global()
            epochs.bump_endpoints([5])
            epochs.bump_peers(["10.0.1.0/24"])

    def read_and_wait(read, *args):
        value = read(*args)
        if not others:
            others.append(threading.Thread(target=twice))
            others[0].start()
            others[0].join(0.2)  # it is done, or it waits for us
        return value

    for name in ("cp_epoch_v1", "cp_epepoch_v1", "cp_ipepoch_v1"):
        map_ = kernel.maps[name]
        map_.items = functools.partial(read_and_wait, map_.items)
        map_.lookup_bytes = functools.partial(read_and_wait, map_.lookup_bytes)
    before = kernel.epoch(), kernel.slot_epoch(5), kernel.peer_epoch("10.0.1.0/24")
    bump(epochs)
    others[0].join()
    assert kernel.epoch() >= before[0] + 2
    assert kernel.slot_epoch(5) >= before[1] + 2
    assert kernel.peer_epoch("10.0.1.0/24") >= before[2] + 2


# ---- endpoints -------------------------------------------------------------------------------------------------------


async def test_an_endpoint_is_opened_last(kernel: Kernel, epochs: Epochs, db) -> None:
    doors = Doors()
    target = EndpointTarget(kernel.maps, epochs, doors, db.table(ENDPOINTS))
    seen = {}

    def opened(ifindex: int) -> None:
        row = kernel.row("cp_endpoint_v1", encode.u32(5))
        seen["ready"] = int(row["flags"])
        seen["local"] = kernel.row("cp_local_v1", encode.address("10.0.0.5"))
        seen["link"] = kernel.row("cp_link_v1", encode.u32(45))
        seen["epoch"] = kernel.slot_epoch(5)

    doors.open_pod_device = opened
    assert await target.update([slot()]) == {}
    assert doors.log == [("prepare", "lxc5"), ("attach", "lxc5")]
    assert seen["ready"] == 1 | 2
    assert (seen["local"]["slot"], seen["local"]["generation"]) == (5, 7)
    assert seen["link"] == 5
    assert seen["epoch"] == 2, "bumped before the device is up"
    row = kernel.row("cp_endpoint_v1", encode.u32(5))
    assert kernel.row("cp_podnet_v1", encode.u32(5)) == 1 + 145, "as the node knows the pod's namespace"
    assert bytes(row["mac"]) == bytes.fromhex("0a0000000001")
    assert bytes(row["ip4"]["b"])[-4:] == bytes([10, 0, 0, 5])


async def test_a_new_set_is_two_writes_and_a_bump(kernel: Kernel, epochs: Epochs, db) -> None:
    doors = Doors()
    target = EndpointTarget(kernel.maps, epochs, doors, db.table(ENDPOINTS))
    await target.update([slot()])
    doors.log.clear()
    assert target.in_use(3)
    assert await target.update([slot(policy_set=9)]) == {}
    assert doors.log == [], "no device is touched"
    assert kernel.row("cp_endpoint_v1", encode.u32(5))["policy_set"] == 9
    assert kernel.slot_epoch(5) == 3
    assert target.in_use(9)
    assert not target.in_use(3)


async def test_an_endpoint_that_cannot_be_attached_is_not_opened(kernel: Kernel, epochs: Epochs, db) -> None:
    doors = Doors()
    doors.refuse = "no such device"
    target = EndpointTarget(kernel.maps, epochs, doors, db.table(ENDPOINTS))
    errors = await target.update([slot()])
    assert "no such device" in errors[5]
    assert ("open", 45) not in doors.log
    assert dump(kernel.maps["cp_local_v1"]) == {}, "nobody is sent there"


async def test_an_endpoint_is_closed_before_its_link_goes_and_its_rows_after(
    kernel: Kernel, epochs: Epochs, db
) -> None:
    doors = Doors()
    target = EndpointTarget(kernel.maps, epochs, doors, db.table(ENDPOINTS))
    await target.update([slot()])
    seen = {}

    def detached(device: str) -> None:
        seen["epoch"] = kernel.slot_epoch(5)
        seen["flags"] = int(kernel.row("cp_endpoint_v1", encode.u32(5))["flags"])
        seen["rows"] = len(dump(kernel.maps["cp_local_v1"]))

    doors.detach_pod = detached
    assert await target.delete([slot()]) == {}
    assert seen == {"epoch": 3, "flags": 2, "rows": 2}
    assert dump(kernel.maps["cp_local_v1"]) == {}
    assert kernel.row("cp_endpoint_v1", encode.u32(5))["generation"] == 0
    assert dump(kernel.maps["cp_link_v1"]) == {}
    await target.closed(5, 7, timeout_s=0)


async def test_a_late_deletion_spares_the_slots_next_owner(kernel: Kernel, epochs: Epochs, db) -> None:
    doors = Doors()
    target = EndpointTarget(kernel.maps, epochs, doors, db.table(ENDPOINTS))
    await target.update([slot(generation=8, ifindex=60)])
    await target.delete([slot(generation=7)])
    assert doors.pinned == {"lxc5"}, "the same container, plugged in anew"
    assert kernel.row("cp_endpoint_v1", encode.u32(5))["generation"] == 8
    assert kernel.row("cp_local_v1", encode.address("10.0.0.5"))["generation"] == 8
    assert kernel.row("cp_link_v1", encode.u32(60)) == 5


async def test_prune_repairs_and_removes_but_keeps_what_waits(kernel: Kernel, epochs: Epochs, db) -> None:
    doors = Doors()
    former = EndpointTarget(kernel.maps, epochs, doors, db.table(ENDPOINTS))
    await former.update([slot(5), slot(6), slot(7)])
    with db.write() as txn:  # 6 is restored, and its policy is not there yet
        txn.upsert(ENDPOINTS, Endpoint(6, 7, "n", "p", "c", "eth0", "lxc6", 46, 2, "", "", "10.0.0.6", "fd00::6"))
    target = EndpointTarget(kernel.maps, epochs, doors, db.table(ENDPOINTS))
    assert target.in_use(3), "as the former agent left it"
    await target.update([slot(5)])
    kernel.maps["cp_local_v1"].delete(encode.address("10.0.0.5"))
    before = kernel.epoch()
    assert await target.prune([slot(5)]) > 0
    assert kernel.epoch() > before, "it may have led elsewhere"
    assert kernel.row("cp_local_v1", encode.address("10.0.0.5")) is not None
    assert kernel.row("cp_endpoint_v1", encode.u32(6))["generation"] == 7
    assert kernel.row("cp_local_v1", encode.address("fd00::6")) is not None
    assert kernel.row("cp_endpoint_v1", encode.u32(7))["generation"] == 0
    assert kernel.row("cp_local_v1", encode.address("fd00::7")) is None
    assert doors.pinned == {"lxc5", "lxc6"}
    assert await target.prune([slot(5)]) == 0


# ---- ipcache ---------------------------------------------------------------------------------------------------------


async def test_addresses_and_prefixes_go_to_their_maps_with_one_bump(kernel: Kernel, epochs: Epochs, db) -> None:
    vector(db, 300)
    vector(db, 9)
    target = IPCacheTarget(kernel.maps, epochs, db.table(VECTORS))
    rows = [
        IPCacheEntry("10.0.1.5/32", 300, tunnel="172.30.0.2", flags=1),
        IPCacheEntry("fd00::5/128", 300),
        IPCacheEntry("10.0.1.0/24", 9, tunnel="172.30.0.2", flags=1),
        IPCacheEntry("::/0", 9),
    ]
    assert await target.update(rows) == {}
    assert kernel.epoch() == 2
    row = kernel.row("cp_iphost_v1", encode.address("10.0.1.5"))
    assert (row["identity"], row["flags"], bytes(row["tunnel"]["b"])[-4:]) == (300, 1, bytes([172, 30, 0, 2]))
    assert len(dump(kernel.maps["cp_iphost_v1"])) == 2
    lengths = {int.from_bytes(key[:4], "little") for key in dump(kernel.maps["cp_ipcidr_v1"])}
    assert lengths == {96 + 24, 0}
    assert target.entries() == {"cp_iphost_v1": 2, "cp_ipcidr_v1": 2}
    assert await target.delete(rows[:1]) == {}
    assert kernel.row("cp_iphost_v1", encode.address("10.0.1.5")) is None
    assert kernel.epoch() == 2, "an address concerns its own network"
    assert kernel.peer_epoch("10.0.1.77/32") == 2


async def test_a_batch_bumps_the_networks_it_is_about_once_and_after_its_last_write(
    kernel: Kernel, epochs: Epochs, db
) -> None:
    vector(db, 300)
    target = IPCacheTarget(kernel.maps, epochs, db.table(VECTORS))
    order: list[str] = []
    for name in ("cp_iphost_v1", "cp_ipcidr_v1", "cp_ipepoch_v1"):
        map_ = kernel.maps[name]
        map_.update = functools.partial(_noted, order, name, map_.update)
    rows = [IPCacheEntry(f"10.0.{net}.{host}/32", 300) for net in (1, 2) for host in range(20)]
    assert await target.update([*rows, IPCacheEntry("fd00:0:0:7::/80", 300)]) == {}
    assert [kernel.peer_epoch(p) for p in ("10.0.1.0/24", "10.0.2.9/32", "fd00:0:0:7::1/128", "10.0.3.0/24")] == [
        2,
        2,
        2,
        1,
    ]
    assert order[-3:] == ["cp_ipepoch_v1"] * 3
    assert order.count("cp_ipepoch_v1") == 3
    assert kernel.epoch() == 1
    many = [IPCacheEntry(f"10.{net}.1.1/32", 300) for net in range(200)]
    await target.update(many)
    await target.delete(many)
    assert kernel.peer_epoch("10.199.1.0/24") >= 3
    assert kernel.epoch() == 1


def _noted(order: list[str], name: str, update, *args) -> None:
    order.append(name)
    update(*args)


async def test_a_nodes_address_concerns_everybody_behind_it(kernel: Kernel, epochs: Epochs, db) -> None:
    """It is the outer address of flows whose own ends are in other buckets."""
    vector(db, 6)
    target = IPCacheTarget(kernel.maps, epochs, db.table(VECTORS))
    node, plain = (IPCacheEntry("172.30.0.2/32", 6, flags=flags) for flags in (4, 0))
    bumps = []
    for step in (target.update([node]), target.update([plain]), target.update([plain]), target.delete([plain])):
        before = kernel.epoch()
        await step
        bumps.append(kernel.epoch() - before)
    assert bumps == [1, 1, 0, 0]


async def test_a_row_waits_for_the_vector_of_its_identity(kernel: Kernel, epochs: Epochs, db, running) -> None:
    vector(db, 300)
    target = IPCacheTarget(kernel.maps, epochs, db.table(VECTORS))
    done = {}

    async def carry() -> None:
        done["errors"] = await target.update([IPCacheEntry("10.0.0.1/32", 300), IPCacheEntry("10.0.0.2/32", 301)])

    running(carry())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert kernel.row("cp_iphost_v1", encode.address("10.0.0.1")) is not None, "who is known does not wait"
    assert kernel.row("cp_iphost_v1", encode.address("10.0.0.2")) is None
    vector(db, 301)
    await until(lambda: "errors" in done)
    assert done["errors"] == {}
    assert kernel.row("cp_iphost_v1", encode.address("10.0.0.2"))["identity"] == 301


async def test_an_identity_without_a_vector_is_an_error(kernel: Kernel, epochs: Epochs, db, monkeypatch) -> None:
    monkeypatch.setattr("ciliumpy.datapath.ipcache.VECTOR_WAIT_S", 0.01)
    target = IPCacheTarget(kernel.maps, epochs, db.table(VECTORS))
    assert await target.update([IPCacheEntry("10.0.0.2/32", 301)]) == {"10.0.0.2/32": "identity 301 is not known yet"}


async def test_an_address_whose_vector_the_kernel_refuses_is_still_not_the_worlds(kernel: Kernel, epochs, db) -> None:
    target = IPCacheTarget(kernel.maps, epochs, db.table(VECTORS))
    with db.write() as txn:
        txn.upsert(VECTORS, SelectorVector(300, bytes(128)))
    db.table(VECTORS).set_status(300, db.table(VECTORS).revision_of(300), "error", "map cp_vector_v1 is full")
    assert await target.update([IPCacheEntry("10.0.0.1/32", 300)]) == {}
    row = kernel.row("cp_iphost_v1", encode.address("10.0.0.1"))
    assert row["identity"] == 300
    assert kernel.row("cp_vector_v1", encode.u32(300)) is None, "and so it meets every deny and no allow"


async def test_around_an_address_that_does_not_fit_a_pod_cidr_is_nobody_and_not_the_world(db) -> None:
    kernel = Kernel({"cp_iphost_v1": 1})
    epochs = Epochs(kernel.maps)
    epochs.bump_all()
    for identity in (2, 300):
        vector(db, identity)
    target = IPCacheTarget(kernel.maps, epochs, db.table(VECTORS))

    def who(prefix: str, length: int) -> int:
        map_ = kernel.maps["cp_ipcidr_v1"]
        return kernel.row(map_.name, encode.ipcache_prefix(map_, encode.address(prefix), length))["identity"]

    ours, theirs = (IPCacheEntry(f"10.0.{n}.0/24", 2, tunnel=f"172.30.0.{n}", flags=1) for n in (1, 2))
    world, pod, other = IPCacheEntry("0.0.0.0/0", 2), IPCacheEntry("10.0.1.5/32", 300), IPCacheEntry("10.0.1.6/32", 300)
    assert await target.update([world, ours, theirs, pod]) == {}
    before = kernel.peer_epoch("10.0.1.6/32")
    assert [*await target.update([other])] == [other.prefix]
    assert (who("10.0.1.0", 120), who("10.0.2.0", 120), who("0.0.0.0", 96)) == (0xFFFFFF, 2, 2)
    assert kernel.row("cp_vector_v1", encode.u32(0xFFFFFF)) is None, "and so it meets every deny and no allow"
    assert kernel.peer_epoch("10.0.1.6/32") > before, "of what was decided before"
    assert await target.update([ours]) == {}
    await target.prune([world, ours, theirs, pod, other])
    assert who("10.0.1.0", 120) == 0xFFFFFF, "as long as it does not fit"
    await target.delete([pod])
    assert await target.update([other]) == {}
    assert who("10.0.1.0", 120) == 2
    assert [*await target.update([pod])] == [pod.prefix]
    await target.delete([pod])
    assert who("10.0.1.0", 120) == 2, "nobody has it any more"
    await target.delete([ours])
    assert [*await target.update([pod])] == [pod.prefix]
    assert await target.update([ours]) == {}
    assert who("10.0.1.0", 120) == 0xFFFFFF, "also when it comes later"


async def test_a_full_ipcache_says_so_on_the_rows_that_do_not_fit(db) -> None:
    kernel = Kernel({"cp_iphost_v1": 2})
    epochs = Epochs(kernel.maps)
    epochs.bump_all()
    vector(db, 300)
    target = IPCacheTarget(kernel.maps, epochs, db.table(VECTORS))
    errors = await target.update([IPCacheEntry(f"10.0.0.{n}/32", 300) for n in range(1, 5)])
    text = "map cp_iphost_v1 is full: all 2 rows are in use (maps.ipcache gives it more)"
    assert errors == dict.fromkeys(["10.0.0.3/32", "10.0.0.4/32"], text)


async def test_ipcache_drift_is_repaired(kernel: Kernel, epochs: Epochs, db) -> None:
    vector(db, 300)
    target = IPCacheTarget(kernel.maps, epochs, db.table(VECTORS))
    rows = [IPCacheEntry("10.0.0.1/32", 300), IPCacheEntry("10.0.0.0/8", 300), IPCacheEntry("10.0.0.9/32", 999)]
    await target.update(rows[:2])
    before = {name: dict(kernel.maps[name].rows) for name in ("cp_iphost_v1", "cp_ipcidr_v1")}
    assert await target.prune(rows) == 0
    kernel.maps["cp_iphost_v1"].update(encode.address("10.0.0.7"), bytes(24))
    kernel.maps["cp_iphost_v1"].update(encode.address("10.0.0.9"), bytes(24))
    kernel.maps["cp_ipcidr_v1"].rows.clear()
    epoch = kernel.epoch()
    assert await target.prune(rows) == 2
    assert kernel.epoch() == epoch + 1
    kernel.maps["cp_iphost_v1"].rows.pop(encode.address("10.0.0.9"))  # waits for its identity: left alone
    assert {name: dict(kernel.maps[name].rows) for name in before} == before


async def test_rows_that_nobody_asked_for_go_from_the_shortest_prefix_to_the_address(
    kernel: Kernel, epochs, db
) -> None:
    """Who is left by one must not meet another that goes, too: an exception is deeper than what it is made in."""
    vector(db, 300)
    former = IPCacheTarget(kernel.maps, epochs, db.table(VECTORS))
    prefixes = ["10.1.2.3/32", "10.1.2.0/24", "10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "0.0.0.0/0"]
    await former.update([IPCacheEntry(prefix, 300) for prefix in prefixes])
    for name in ("cp_iphost_v1", "cp_ipcidr_v1"):
        kernel.maps[name].writes.clear()
    gone: list[int] = []
    for name in ("cp_iphost_v1", "cp_ipcidr_v1"):
        map_ = kernel.maps[name]
        map_.delete = functools.partial(_lengths, gone, map_.delete)
    await IPCacheTarget(kernel.maps, epochs, db.table(VECTORS)).prune([IPCacheEntry("0.0.0.0/0", 300)])
    assert gone == [32, 96 + 8, 96 + 16, 96 + 24, 128]


def _lengths(gone: list[int], delete, key: bytes) -> bool:
    """Note how long a prefix is; an address is all of it."""
    gone.append(int.from_bytes(key[:4], "little") if len(key) > 16 else 128)
    return delete(key)


# ---- vectors ---------------------------------------------------------------------------------------------------------


async def test_only_a_vector_that_replaces_another_bumps(kernel: Kernel, epochs: Epochs) -> None:
    target = VectorTarget(kernel.maps, epochs)
    one, two = SelectorVector(300, bytes(128)), SelectorVector(300, b"\1" + bytes(127))
    await target.update([one])
    assert kernel.epoch() == 1
    await target.update([one])
    assert kernel.epoch() == 1
    await target.update([two])
    assert kernel.epoch() == 2
    await target.delete([two])
    assert kernel.epoch() == 3
    assert dump(kernel.maps["cp_vector_v1"]) == {}


async def test_a_vector_may_be_shorter_and_must_not_lose_a_bit(kernel: Kernel, epochs: Epochs) -> None:
    target = VectorTarget(kernel.maps, epochs)
    assert await target.update([SelectorVector(300, b"\x05"), SelectorVector(301, b"\1" + bytes(511))]) == {}
    assert kernel.row("cp_vector_v1", encode.u32(300))["words"].tolist() == [5, *[0] * 15]
    assert kernel.row("cp_vector_v1", encode.u32(301))["words"].tolist() == [1, *[0] * 15]
    with pytest.raises(ValueError, match="a bit above the 1024 of the datapath"):
        await target.update([SelectorVector(300, bytes(128) + b"\1")])
