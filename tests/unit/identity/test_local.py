# SPDX-License-Identifier: Apache-2.0
"""Identities of prefixes: numbers go by labels, upwards, are kept over a restart, and go when nobody has them."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest

from ciliumpy.identity.holdings import Holdings
from ciliumpy.identity.local import LINGER_S, LocalIdentities
from ciliumpy.identity.memory import FileMemory, Kept
from ciliumpy.identity.numbers import LAST, Numbers
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.state.database import Database
from ciliumpy.tables.identities import (
    CIDR_PREFIXES,
    IDENTITIES,
    INSTALLED_PREFIXES,
    PREFIX_IDENTITIES,
    CidrPrefix,
    InstalledPrefix,
)
from ciliumpy.tables.ipcache import IPCACHE, IPCacheEntry
from ciliumpy.tables.registry import ALL_TABLES
from ciliumpy.tables.source import CIDR_GROUPS, CidrGroup
from tests.unit.state.support import FakeClock

FIRST = 16777217


class Node:
    """One agent's part; a second one with the same memory is the next agent."""

    def __init__(self, memory: FileMemory | None = None, *, ipv6: bool = False, highest: int = 0) -> None:
        self.clock = FakeClock()
        self.db = Database(ALL_TABLES, clock=self.clock)
        self.local = LocalIdentities(self.db, memory=memory, ipv6=ipv6, highest=highest)

    async def settle(self) -> None:
        done = asyncio.Event()
        done.set()
        await self.local.end_start(done)

    async def want(self, *prefixes: str) -> None:
        with self.db.write() as txn:
            for row in txn.all(CIDR_PREFIXES):
                if row.prefix not in prefixes:
                    txn.delete(CIDR_PREFIXES, row.prefix)
            for prefix in prefixes:
                txn.upsert(CIDR_PREFIXES, CidrPrefix(prefix))
        await self.local.round()

    @property
    def numbers(self) -> dict[str, int]:
        return {row.prefix: row.identity for row in self.db.table(PREFIX_IDENTITIES).all()}

    def labels(self, number: int) -> tuple[str, ...] | None:
        row = self.db.table(IDENTITIES).get(number)
        return row and row.labels

    def install(self) -> None:
        """What the kernel's side does when all is carried over."""
        with self.db.write() as txn:
            for row in txn.all(INSTALLED_PREFIXES):
                txn.delete(INSTALLED_PREFIXES, row.prefix)
            for prefix, number in self.numbers.items():
                txn.upsert(INSTALLED_PREFIXES, InstalledPrefix(prefix, number))


@pytest.fixture
def memory(tmp_path: Path) -> FileMemory:
    return FileMemory(tmp_path / "identities.json", 1)


async def test_a_prefix_gets_a_number_of_this_node_and_its_labels(memory: FileMemory) -> None:
    node = Node(memory)
    await node.want("10.0.0.0/8", "10.1.0.0/16")
    assert node.numbers == {"10.0.0.0/8": FIRST, "10.1.0.0/16": FIRST + 1}
    assert node.labels(FIRST) == ("cidr:10.0.0.0/8", "reserved:world")


async def test_a_group_gives_its_prefixes_other_labels_and_so_other_numbers(memory: FileMemory) -> None:
    node = Node(memory)
    await node.want("10.0.0.0/8", "11.0.0.0/8")
    with node.db.write() as txn:
        txn.upsert(CIDR_GROUPS, CidrGroup("g", (("tier", "gold"),), ("10.0.0.0/7",)))
    await node.local.round()
    assert node.numbers == {"10.0.0.0/7": FIRST + 2, "10.0.0.0/8": FIRST + 3, "11.0.0.0/8": FIRST + 4}
    assert "cidrgroup:tier=gold" in node.labels(FIRST + 3)
    await node.settle()
    with node.db.write() as txn:
        txn.delete(CIDR_GROUPS, "g")
    await node.local.round()
    assert node.numbers == {"10.0.0.0/8": FIRST, "11.0.0.0/8": FIRST + 1}, "nobody forgot them so soon"


async def test_what_a_group_now_holds_in_parts_has_its_labels_in_the_step_in_which_the_whole_loses_them() -> None:
    node = Node()
    await node.settle()
    with node.db.write() as txn:
        txn.upsert(CIDR_GROUPS, CidrGroup("g", (), ("10.0.0.0/8",)))
    await node.want("10.0.0.0/8")
    with node.db.write() as txn:
        txn.upsert(CIDR_GROUPS, CidrGroup("g", (), ("10.0.0.0/9", "10.128.0.0/9")))
    await node.local.round()  # before enforcement has asked for the halves
    ofgroup = {prefix for prefix, number in node.numbers.items() if any("cidrgroup" in t for t in node.labels(number))}
    assert ofgroup == {"10.0.0.0/9", "10.128.0.0/9"}, "what denied the group would not deny them for a moment"
    await node.want("10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9")
    with node.db.write() as txn:
        txn.delete(CIDR_GROUPS, "g")
    await node.local.round()
    await node.want("10.0.0.0/8")
    assert node.numbers.keys() == {"10.0.0.0/8"}


async def test_numbers_are_kept_over_a_restart_and_what_nobody_names_goes_after_it(memory: FileMemory) -> None:
    first = Node(memory)
    await first.want("10.0.0.0/8", "10.1.0.0/16")
    second = Node(memory)
    assert second.numbers == first.numbers, "before anything is read: the kernel goes by them"
    assert second.labels(FIRST + 1) == first.labels(FIRST + 1)
    await second.want("10.1.0.0/16", "10.2.0.0/16")
    assert second.numbers == {"10.0.0.0/8": FIRST, "10.1.0.0/16": FIRST + 1, "10.2.0.0/16": FIRST + 2}
    await second.settle()
    await second.local.round()
    assert second.numbers == {"10.1.0.0/16": FIRST + 1, "10.2.0.0/16": FIRST + 2}


async def test_what_a_former_agent_left_without_a_prefix_stays_until_the_start_has_ended(memory: FileMemory) -> None:
    memory.save(Kept({FIRST: ("cidr:10.0.0.0/8", "reserved:world")}, FIRST + 1, {}))
    node = Node(memory)
    node.clock.advance(LINGER_S + 1)
    await node.local.round()
    assert node.labels(FIRST), "the kernel may have a row with it"
    await node.settle()
    await node.local.round()
    assert not node.labels(FIRST)


async def test_an_identity_goes_a_minute_after_its_last_prefix_and_after_the_kernels_row(memory: FileMemory) -> None:
    node = Node(memory)
    await node.settle()
    await node.want("10.0.0.0/8")
    node.install()
    await node.want()
    with node.db.write() as txn:
        txn.upsert(IPCACHE, IPCacheEntry("10.0.0.0/8", FIRST))
    node.clock.advance(LINGER_S + 1)
    await node.local.round()
    assert node.labels(FIRST), "an address has it still"
    with node.db.write() as txn:
        txn.delete(IPCACHE, "10.0.0.0/8")
    await node.local.round()
    assert node.labels(FIRST) is None
    await node.want("10.9.0.0/16")
    assert node.numbers == {"10.9.0.0/16": FIRST + 1}, "its number rests"
    await node.want()
    await node.want("10.9.0.0/16")
    node.clock.advance(LINGER_S + 1)
    await node.local.round()
    assert node.labels(FIRST + 1), "it is in use again"


async def test_nothing_goes_while_the_kernel_is_behind(memory: FileMemory) -> None:
    node = Node(memory)
    await node.settle()
    await node.want("10.0.0.0/8", "11.0.0.0/8")
    await node.want("11.0.0.0/8")
    node.clock.advance(LINGER_S + 1)
    await node.local.round()
    assert node.labels(FIRST), "11/8 is on its way: what the kernel has instead is not known"
    node.install()
    node.db.table(IPCACHE).follow_deletions()
    with node.db.write() as txn:
        txn.upsert(IPCACHE, IPCacheEntry("12.0.0.0/8", 2))
    with node.db.write() as txn:
        txn.delete(IPCACHE, "12.0.0.0/8")
    await node.local.round()
    assert node.labels(FIRST), "a row is on its way out"
    node.db.table(IPCACHE).set_gone("12.0.0.0/8")
    await node.local.round()
    assert node.labels(FIRST) is None


async def test_a_family_that_is_off_has_no_identity(memory: FileMemory) -> None:
    node = Node(memory)
    await node.want("fd00::/8", "0.0.0.0/0")
    assert node.numbers == {"0.0.0.0/0": FIRST}
    both = Node(ipv6=True)
    await both.want("fd00::/8")
    assert both.labels(FIRST) == ("cidr:fd00--0/8", "reserved:world-ipv6")


async def test_a_prefix_that_is_not_canonical_has_none_and_others_do(caplog: pytest.LogCaptureFixture) -> None:
    node = Node()
    await node.want("10.1.0.0/8", "11.0.0.0/8")
    assert list(node.numbers) == ["11.0.0.0/8"]
    assert "10.1.0.0/8 has bits beyond its length" in caplog.text


async def test_what_cannot_be_written_down_is_not_given(tmp_path: Path) -> None:
    node = Node(FileMemory(tmp_path / "nowhere" / "identities.json", 1))
    with pytest.raises(CiliumpyError, match="cannot be written down"):
        await node.want("10.0.0.0/8")
    assert node.numbers == {}
    (tmp_path / "nowhere").mkdir()
    await node.local.round()
    assert node.numbers == {"10.0.0.0/8": FIRST + 1}, "it is tried again"


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        msgspec.json.encode(Kept({256: ("k8s:a",)}, FIRST + 9)),
        msgspec.json.encode(Kept({}, FIRST + 9, {"10.0.0.0/8": FIRST})),
        msgspec.json.encode(Kept({FIRST: ("cidr:foo",)}, FIRST + 9, {"foo": FIRST})),
    ],
)
async def test_without_a_memory_it_goes_on_after_what_the_kernel_has(text: bytes, tmp_path: Path, caplog) -> None:
    (tmp_path / "identities.json").write_bytes(text)
    node = Node(FileMemory(tmp_path / "identities.json", 1, ip_network), highest=FIRST + 40)
    assert "given anew" in caplog.text
    await node.want("10.0.0.0/8")
    assert node.numbers == {"10.0.0.0/8": FIRST + 41}


def test_numbers_begin_anew_at_the_end_and_leave_out_those_in_use() -> None:
    numbers = Numbers(1, {("a",): FIRST, ("z",): FIRST + LAST - 1}, FIRST + LAST - 2)
    assert [numbers.take((each,)) for each in "bcd"] == [FIRST + LAST - 2, FIRST + 1, FIRST + 2]
    assert numbers.take(("b",)) == FIRST + LAST - 2
    numbers.release(("c",))
    assert numbers.take(("e",)) == FIRST + 3


def test_two_owners_with_the_same_labels_have_the_same_number() -> None:
    holdings = Holdings(2)
    holdings.change({"n1": ("a",), "n2": ("a",), "n3": ("b",)}, 5)
    assert holdings.owners == {"n1": 33554433, "n2": 33554433, "n3": 33554434}
    holdings.change({"n1": None}, 6)
    assert not holdings.idle
    holdings.change({"n2": ("b",)}, 7)
    assert holdings.idle_before(6) == []
    assert holdings.idle_before(7) == [33554433]
    holdings.forget([33554433])
    assert holdings.labels == {33554434: ("b",)}
