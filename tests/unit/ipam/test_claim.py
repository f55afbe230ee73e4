# SPDX-License-Identifier: Apache-2.0
"""Nodes take pod CIDRs together, keep them, and go on with what they remember."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ciliumpy.ipam.controller import Memory, PoolConfig, claim, pod_cidrs
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.nodes.objects import node_object
from ciliumpy.store.directory.store import DirectoryStore, create_store
from ciliumpy.tables.source import Node

POOLS = [PoolConfig("10.244.0.0/22", 24), PoolConfig("fd00:10:244::/48", 64)]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    create_store(tmp_path / "store")
    return DirectoryStore(tmp_path / "store")


def describing(name: str):
    return lambda cidrs: node_object(Node(name, pod_cidrs=cidrs))


def take(store: DirectoryStore, name: str, remembered: tuple[str, ...] = ()) -> tuple[str, ...]:
    return claim(store, name, POOLS, describing(name), remembered)


def test_each_node_has_its_own_and_keeps_them(store: DirectoryStore) -> None:
    assert take(store, "a") == ("10.244.0.0/24", "fd00:10:244::/64")
    assert take(store, "b") == ("10.244.1.0/24", "fd00:10:244:1::/64")
    assert take(store, "a") == ("10.244.0.0/24", "fd00:10:244::/64")


def test_many_at_once(store: DirectoryStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: take(store, name), ["a", "b", "c", "d"]))
    assert len({cidrs[0] for cidrs in found}) == 4
    with pytest.raises(CiliumpyError, match="no /24 is left"):
        take(store, "e")


def test_what_a_node_had_is_kept_unless_another_has_it(store: DirectoryStore) -> None:
    assert take(store, "a", ("10.244.2.0/24", "fd00:10:244:9::/64")) == ("10.244.2.0/24", "fd00:10:244:9::/64")
    assert take(store, "b", ("10.244.2.0/24", "fd00:10:244:7::/64")) == ("10.244.0.0/24", "fd00:10:244:7::/64")
    assert take(store, "c", ("192.168.0.0/24", "fd00:10:244:5::/80"))[0] == "10.244.1.0/24"


def test_a_damaged_node_takes_no_room(store: DirectoryStore, caplog) -> None:
    with store.transaction() as txn:
        document = node_object(Node("bad"))
        document["spec"]["ipam"]["podCIDRs"] = ["10.244.0.0/24x", 7]
        txn.put(document)
    assert take(store, "a")[0] == "10.244.0.0/24"


def test_without_the_store_what_is_remembered_counts(store: DirectoryStore, tmp_path: Path) -> None:
    memory = Memory(tmp_path / "pod-cidrs.json")
    found = pod_cidrs(store, "a", POOLS, describing("a"), memory)
    shutil.rmtree(tmp_path / "store")
    assert pod_cidrs(store, "a", POOLS, describing("a"), memory) == found
    with pytest.raises(CiliumpyError, match="is missing"):
        pod_cidrs(store, "b", POOLS, describing("b"), Memory(tmp_path / "other.json"))
    with pytest.raises(CiliumpyError, match="is missing"):
        pod_cidrs(store, "a", POOLS[:1], describing("a"), memory)


@pytest.mark.parametrize("text", ['["nope", "fd00:10:244::/64"]', "[1]", "{", ""])
def test_a_damaged_memory_is_none(store: DirectoryStore, tmp_path: Path, text: str) -> None:
    memory = Memory(tmp_path / "pod-cidrs.json")
    found = pod_cidrs(store, "a", POOLS, describing("a"), memory)
    (tmp_path / "pod-cidrs.json").write_text(text)
    assert memory.load() == ()
    assert pod_cidrs(store, "a", POOLS, describing("a"), memory) == found
    assert memory.load() == found


def test_what_cannot_be_remembered_is_claimed_all_the_same(store: DirectoryStore, tmp_path: Path, caplog) -> None:
    found = pod_cidrs(store, "a", POOLS, describing("a"), Memory(tmp_path / "gone" / "pod-cidrs.json"))
    assert found == take(store, "a")
    assert "cannot be remembered" in caplog.text
