# SPDX-License-Identifier: Apache-2.0
"""The contract of the fake kernel's maps, which the real ones fulfil too."""

from __future__ import annotations

import numpy as np
import pytest

from ciliumpy.bpf.names import SETTINGS
from ciliumpy.bpf.programs import load_object
from ciliumpy.datapath.kernel import dump, is_full, refusal, write, write_all

from .kernel import OBJECT, Kernel

SIZES = {"cp_vector_v1": 3, "cp_ipcidr_v1": 3}


@pytest.fixture(scope="module")
def real():
    if not OBJECT.exists():
        pytest.skip("the BPF objects are not built (make bpf)")
    with load_object(OBJECT, max_entries=SIZES) as collection:
        yield collection.maps


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.root)])
def maps(request):
    if request.param == "real":
        maps = request.getfixturevalue("real")
        yield maps
        for name in ("cp_vector_v1", "cp_ipcidr_v1", "cp_iphost_v1"):
            for key in dump(maps[name]):
                maps[name].delete(key)
        return
    yield Kernel(SIZES).maps


def key(number: int) -> bytes:
    return number.to_bytes(4, "little")


def test_layouts_are_the_same(maps) -> None:
    fake = Kernel(SIZES).maps
    for name, map_ in fake.items():
        assert maps[name].key_dtype == map_.key_dtype, name
        assert maps[name].value_dtype == map_.value_dtype, name
        assert maps[name].max_entries == map_.max_entries, name


def test_write_read_delete(maps) -> None:
    map_ = maps["cp_vector_v1"]
    value = bytes(range(128))
    assert map_.lookup_bytes(key(7)) is None
    assert write(map_, key(7), value) == ""
    assert map_.lookup_bytes(key(7)) == value
    assert map_.delete(key(7))
    assert not map_.delete(key(7))


def test_dump_gives_every_row(maps) -> None:
    map_ = maps["cp_iphost_v1"]
    rows = {number.to_bytes(16, "big"): bytes([number]) * 24 for number in range(1, 200)}
    assert write_all(map_, rows) == {}
    assert dump(map_) == rows


@pytest.mark.parametrize("name", ["cp_vector_v1", "cp_ipcidr_v1"])
def test_a_full_map_refuses_new_keys_only(maps, name) -> None:
    map_ = maps[name]
    size = map_.key_dtype.itemsize
    keys = [(128).to_bytes(4, "little") + bytes([n]) * (size - 4) if size > 4 else key(n) for n in range(4)]
    value = bytes(map_.value_dtype.itemsize)
    assert write_all(map_, dict.fromkeys(keys[:3], value)) == {}
    with pytest.raises(Exception) as caught:
        map_.update(keys[3], value)
    assert is_full(caught.value)
    assert refusal(map_, caught.value) == f"map {name} is full: all 3 rows are in use ({SETTINGS[name]} gives it more)"
    assert write(map_, keys[0], b"\1" * len(value)) == ""
    errors = write_all(map_, dict.fromkeys([keys[3], keys[1]], b"\2" * len(value)))
    assert list(errors) == [keys[3]], "the others of the batch are written"
    assert map_.lookup_bytes(keys[1]) == b"\2" * len(value)


def test_an_array_has_all_rows_and_keeps_them(maps) -> None:
    keys, values = maps["cp_epoch_v1"].items()
    assert list(keys) == list(range(8))
    assert values.dtype == np.uint64
    with pytest.raises(Exception, match="cp_epoch_v1"):
        maps["cp_epoch_v1"].delete(key(0))
