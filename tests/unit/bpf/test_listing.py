# SPDX-License-Identifier: Apache-2.0
"""The list of pinned maps: right, and cheap to import."""

from __future__ import annotations

import subprocess
import sys as python

import numpy as np
import pytest

from ciliumpy.bpf import listing, sys
from ciliumpy.bpf.links import attach_tcx
from ciliumpy.bpf.programs import load_object
from ciliumpy.kit.errors import CiliumpyError


@pytest.mark.root
def test_every_map_with_its_layout_and_entries(sample, pins, own_namespace):
    with load_object(sample, pin_dir=pins) as loaded:
        for name, count in {"s_hash_v1": 7, "s_lru_v1": 5, "s_lpm_v1": 3, "s_pcpuhash_v1": 2}.items():
            of = loaded.maps[name]
            keys = np.zeros(count, of.key_dtype)
            raw = keys.view("u1").reshape(count, -1)
            raw[:, -4:] = np.arange(count, dtype=">u4").view("u1").reshape(-1, 4)
            if "prefixlen" in (of.key_dtype.names or ()):
                keys["prefixlen"] = 128
            of.update_batch(keys, bytes(count * of.value_size * max(of.cpus, 1)))
        attach_tcx(loaded.programs["count"], 1, "ingress", pins / "a_link").close()
        rows = {row.name: row for row in listing.list_maps(pins)}
        assert list(rows) == sorted(rows)
        assert {name: row.entries for name, row in rows.items()} == {
            "s_array_v1": 16,
            "s_hash_v1": 7,
            "s_lpm_v1": 3,
            "s_lru_v1": 5,
            "s_pcpuhash_v1": 2,
            "s_percpu_v1": 4,
            "s_rings_v1": min(16, sys.possible_cpus()),
            "s_sparse_v1": 0,
            "s_state_v1": 1,
        }
        row = rows["s_lpm_v1"]
        assert (row.type, row.key_size, row.value_size, row.max_entries, row.flags) == ("lpm_trie", 20, 24, 4096, 1)
        assert row.memlock > 0
        assert row.path == str(pins / "s_lpm_v1")
        assert row.id == loaded.maps["s_lpm_v1"].id


@pytest.mark.root
def test_folders_below_are_looked_into_and_what_is_no_map_is_passed_over(sample, pins, own_namespace):
    for name in ("n1", "n1/maps", "n1/links", "n2"):
        (pins / name).mkdir()
    with load_object(sample, pin_dir=pins / "n1/maps") as loaded:
        loaded.maps["s_hash_v1"].pin(pins / "n2/other")
        attach_tcx(loaded.programs["count"], 1, "ingress", pins / "n1/links/a_link").close()
    (pins / "again").symlink_to(pins / "n1")
    try:
        names = [row.name for row in listing.list_maps(pins)]
    finally:
        (pins / "again").unlink()
    assert names[0] == "n1/maps/s_array_v1"
    assert names[-1] == "n2/other"
    assert len(names) == len(set(names)) == 10


@pytest.mark.root
def test_files_of_the_kernel_are_no_maps(tmp_path):
    subprocess.run(["mount", "-t", "bpf", "cpt", tmp_path], check=True)
    try:
        assert (tmp_path / "maps.debug").exists()
        assert listing.list_maps(tmp_path) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.root
@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_counting_a_large_map_and_without_batches(loaded, rows, monkeypatch):
    of = loaded.maps["s_hash_v1"]
    keys = np.zeros(rows, of.key_dtype)
    keys["set"] = np.arange(rows)
    of.update_batch(keys, np.zeros(rows, of.value_dtype))
    monkeypatch.setattr(listing, "_CHUNK_BYTES", 4096)
    assert listing.count_entries(of.fd) == rows
    monkeypatch.setattr(listing.sys, "map_batch", lambda *_, **__: (0, sys.ENOTSUPP))
    assert listing.count_entries(of.fd) == rows


def test_a_folder_that_is_not_there():
    with pytest.raises(CiliumpyError, match="cannot list /sys/fs/bpf/cpt-nothing: No such file or directory"):
        listing.list_maps(listing_path())


def listing_path():
    from pathlib import Path

    return Path("/sys/fs/bpf/cpt-nothing")


def test_it_needs_the_standard_library_only():
    code = (
        "import sys; import ciliumpy.bpf.listing, ciliumpy.bpf.pins, ciliumpy.bpf.probe;"
        "print(sorted({'numpy', 'asyncio', 'yaml', 'grpc', 'msgspec', 'pyroute2'} & set(sys.modules)))"
    )
    done = subprocess.run([python.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
