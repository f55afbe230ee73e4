# SPDX-License-Identifier: Apache-2.0
"""Every type of map: one row, all rows, batches that equal single calls."""

from __future__ import annotations

import errno
import threading

import numpy as np
import pytest

from ciliumpy.bpf import maps as maps_module
from ciliumpy.bpf import sys
from ciliumpy.bpf.maps import Map, MapError, total
from ciliumpy.bpf.sys import MapType

pytestmark = pytest.mark.root

PLAIN = ["s_hash_v1", "s_sparse_v1", "s_lru_v1", "s_lpm_v1", "s_pcpuhash_v1"]
ARRAYS = ["s_array_v1", "s_percpu_v1"]


def some_rows(of: Map, count: int, seed: int = 1):
    """Distinct keys and random values of the map's own types."""
    random = np.random.default_rng(seed)
    keys = np.zeros(count, of.key_dtype)
    if of.type == MapType.LPM_TRIE:
        keys["prefixlen"] = 128
        keys["addr"]["b"][:, 12:] = np.arange(count, dtype=">u4").view("u1").reshape(-1, 4)
    else:
        raw = keys.view("u1").reshape(count, -1)
        raw[:, :4] = np.arange(count, dtype="<u4").view("u1").reshape(-1, 4)
    shape = (count, of.cpus, of.value_size) if of.cpus else (count, of.value_size)
    values = random.integers(0, 256, shape, "u1").view(of.value_dtype)
    return keys, values.reshape(shape[:-1])


def as_dict(of: Map, keys, values):
    rows = keys.view("u1").reshape(len(keys), -1), np.ascontiguousarray(values).view("u1").reshape(len(values), -1)
    return {key.tobytes(): value.tobytes() for key, value in zip(*rows, strict=True)}


@pytest.mark.parametrize("name", PLAIN)
def test_a_batch_equals_single_calls(loaded, name, monkeypatch):
    of = loaded.maps[name]
    keys, values = some_rows(of, 50)
    of.update_batch(keys, values)
    by_batch = as_dict(of, *of.items())
    assert by_batch == as_dict(of, keys, values)
    for at in (0, 17, 49):
        found = of.lookup(keys[at])
        assert found.tobytes() == values[at].tobytes()
    assert of.delete_batch(keys[:20]) == 20
    assert of.delete_batch(keys) == 30, "those that are gone are passed over"
    assert len(of.items()[0]) == 0

    monkeypatch.setattr(maps_module.sys, "map_batch", lambda *_, **__: (0, sys.ENOTSUPP))
    of.update_batch(keys, values)
    assert as_dict(of, *of.items()) == by_batch
    assert of.delete_batch(keys) == 50


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_written_and_read_whole(loaded, name, monkeypatch):
    of = loaded.maps[name]
    keys, values = some_rows(of, of.max_entries)
    of.update_batch(keys, values)
    read_keys, read_values = of.items()
    assert read_keys.tolist() == list(range(of.max_entries))
    assert read_values.tobytes() == values.tobytes()
    monkeypatch.setattr(maps_module.sys, "map_batch", lambda *_, **__: (0, sys.ENOTSUPP))
    assert of.items()[1].tobytes() == values.tobytes()


def test_one_row(loaded):
    of = loaded.maps["s_sparse_v1"]
    assert of.lookup(5) is None
    of.update(5, 50)
    assert of.lookup(5) == 50
    assert of.lookup_bytes(b"\5\0\0\0") == (50).to_bytes(8, "little")
    with pytest.raises(MapError) as refused:
        of.update(5, 51, sys.BPF_NOEXIST)
    assert refused.value.errno == errno.EEXIST
    with pytest.raises(MapError, match="No such file"):
        of.update(6, 60, sys.BPF_EXIST)
    assert of.delete(5)
    assert not of.delete(5)


def test_a_key_of_another_size_is_refused_before_the_kernel_reads_past_it(loaded):
    with pytest.raises(MapError, match="4 bytes, not 3"):
        loaded.maps["s_sparse_v1"].lookup(b"abc")
    with pytest.raises(MapError, match="8 bytes, not 9"):
        loaded.maps["s_sparse_v1"].update(1, b"123456789")
    with pytest.raises(MapError, match="2 keys and 1 values"):
        loaded.maps["s_sparse_v1"].update_batch(np.arange(2, dtype="u4"), np.zeros(1, "u8"))


def test_structured_rows_by_field(loaded):
    of = loaded.maps["s_hash_v1"]
    key, value = np.zeros((), of.key_dtype), np.zeros((), of.value_dtype)
    key["set"], key["port"] = 7, 443
    value["number"], value["text"] = -5, b"hello"
    of.update(key, value)
    found = of.lookup(key)
    assert (found["number"], found["text"]) == (-5, b"hello")


def test_a_full_map_says_how_much_room_it_has_and_how_far_it_came(loaded):
    of = loaded.maps["s_sparse_v1"]
    with pytest.raises(MapError, match="s_sparse_v1 is full: it has room for 64 entries") as refused:
        of.update_batch(np.arange(100, dtype="u4"), np.zeros(100, "u8"))
    assert refused.value.done == 64
    assert refused.value.errno == errno.E2BIG
    assert len(of.items()[0]) == 64


def test_per_cpu_values_have_a_column_a_cpu(loaded):
    of = loaded.maps["s_pcpuhash_v1"]
    cpus = sys.possible_cpus()
    of.update(3, np.arange(cpus, dtype="u4"))
    assert of.lookup(3).tolist() == list(range(cpus))
    of.update(4, 9)
    assert of.lookup(4).tolist() == [9] * cpus, "one value stands for all CPUs"
    keys, values = of.items()
    assert values.shape == (2, cpus)
    assert dict(zip(keys.tolist(), total(values).tolist(), strict=True)) == {3: sum(range(cpus)), 4: 9 * cpus}


def test_per_cpu_counters_of_a_program_add_up(loaded):
    for _ in range(5):
        loaded.programs["count"].test_run(bytes(60))
    _, values = loaded.maps["s_percpu_v1"].items()
    summed = total(values)
    assert (summed["packets"][1], summed["bytes"][1]) == (5, 300)


def test_a_trie_finds_the_longest_prefix(loaded):
    of = loaded.maps["s_lpm_v1"]
    for length, identity in ((96 + 8, 1), (96 + 24, 2)):
        key, value = np.zeros((), of.key_dtype), np.zeros((), of.value_dtype)
        key["prefixlen"], value["identity"] = length, identity
        key["addr"]["b"][10:] = [255, 255, 10, 0, 1, 0]
        of.update(key, value)
    key["prefixlen"] = 128
    key["addr"]["b"][15] = 77
    assert of.lookup(key)["identity"] == 2
    key["addr"]["b"][14] = 9
    assert of.lookup(key)["identity"] == 1


def test_a_long_hash_bucket_makes_the_batch_grow(loaded, monkeypatch):
    of = loaded.maps["s_lru_v1"]
    keys = np.arange(300, dtype="u8")
    of.update_batch(keys, keys)
    monkeypatch.setattr(maps_module, "_CHUNK", 1)
    assert sorted(of.items()[0].tolist()) == list(range(300))


@pytest.mark.parametrize("name", ["s_hash_v1", "s_lpm_v1"])
@pytest.mark.parametrize("batches", [True, False])
def test_reading_while_another_writes_gives_each_row_once(loaded, name, batches, monkeypatch):
    """Rows that stay are in every reading, exactly once, while others come and go."""
    of = loaded.maps[name]
    keys, values = some_rows(of, 900)
    of.update_batch(keys, values)
    stay, churn = keys[:300], keys[300:]
    if not batches:
        real = sys.map_batch
        monkeypatch.setattr(
            maps_module.sys,
            "map_batch",
            lambda command, *rest, **more: (
                (0, sys.ENOTSUPP) if command == sys.Command.MAP_LOOKUP_BATCH else real(command, *rest, **more)
            ),
        )
    stop = threading.Event()

    def write():
        while not stop.is_set():
            of.delete_batch(churn)
            of.update_batch(churn, values[300:])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wanted = {row.tobytes() for row in stay.view("u1").reshape(len(stay), -1)}
        for _ in range(20):
            read = of.items()[0]
            found = [row.tobytes() for row in read.view("u1").reshape(len(read), -1)]
            assert len(found) == len(set(found))
            if batches or of.type != MapType.HASH:
                assert wanted <= set(found)
    finally:
        stop.set()
        writer.join()


def test_opened_by_number_and_closed_once(loaded):
    with Map.from_id(loaded.maps["s_array_v1"].id) as again:
        assert again.name == "s_array_v1"
        assert again.value_dtype == np.dtype("u8"), "read from the kernel's BTF"
    again.close()
    with pytest.raises(MapError, match="no map 4294967295"):
        Map.from_id(0xFFFFFFFF)


def test_a_map_of_maps_gives_its_rings(loaded):
    rings = loaded.maps["s_rings_v1"]
    first = rings.inner(b"\0\0\0\0")
    assert first is not None
    with first:
        assert (first.type, first.max_entries) == (MapType.RINGBUF, 1 << 20)
    keys, _ = rings.items()
    assert len(keys) == min(16, sys.possible_cpus())


def test_a_frozen_map_takes_no_more_writes():
    with Map.create(MapType.ARRAY, 4, 8, 1, name="cpt_frozen") as of:
        of.update(b"\0\0\0\0", b"12345678")
        of.freeze()
        with pytest.raises(MapError, match="cannot write to map cpt_frozen: Operation not permitted"):
            of.update(b"\0\0\0\0", b"87654321")
        assert of.lookup_bytes(b"\0\0\0\0") == b"12345678"
        assert of.value_dtype is None, "it has no BTF"
        assert of.items()[1].tobytes() == b"12345678"
