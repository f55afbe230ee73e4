# SPDX-License-Identifier: Apache-2.0
"""Objects in the kernel: constants, sizes, test runs, readable refusals, pinned maps taken over or refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ciliumpy.bpf import libbpf
from ciliumpy.bpf.maps import Map
from ciliumpy.bpf.programs import decisive_lines, load_object
from ciliumpy.kit.errors import CiliumpyError

pytestmark = pytest.mark.root


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_constants_are_set_before_the_load(sample):
    with load_object(sample, rodata={"cfg_number": 0xA0B0C0D0, "cfg_address": bytes(range(16))}) as loaded:
        run = loaded.programs["constants"].test_run(bytes(60))
    assert run.data[:22] == bytes.fromhex("d0c0b0a0 5000") + bytes(range(16))
    assert run.retval == -1, "TC_ACT_UNSPEC"


def test_a_constant_that_is_not_there_or_does_not_fit_is_refused(sample):
    with pytest.raises(CiliumpyError, match="no constant 'cfg_nonsense'") as refused:
        load_object(sample, rodata={"cfg_nonsense": 1})
    assert "cfg_number" in refused.value.hint
    with pytest.raises(CiliumpyError, match=r"'cfg_address' of sample.o has 16 bytes, not 4"):
        load_object(sample, rodata={"cfg_address": b"1234"})
    with pytest.raises(CiliumpyError, match=r"'cfg_port' of sample.o has 2 bytes: 65536 does not fit"):
        load_object(sample, rodata={"cfg_port": 65536})


def test_sizes_of_maps_are_set(sample):
    with load_object(sample, max_entries={"s_hash_v1": 123}, ring_size=1 << 16) as loaded:
        assert loaded.maps["s_hash_v1"].max_entries == 123
        with loaded.maps["s_rings_v1"].inner(b"\0\0\0\0") as ring:
            assert ring.max_entries == 1 << 16
    with pytest.raises(CiliumpyError, match="no map 'nonsense'"):
        load_object(sample, max_entries={"nonsense": 1})


def test_a_test_run_gives_verdict_packet_and_time(loaded):
    run = loaded.programs["count"].test_run(bytes(1500), repeat=10)
    assert (run.retval, run.data) == (0, bytes(1500))
    assert run.duration_ns > 0
    assert loaded.programs["shoot"].test_run(bytes(60)).retval == 2
    assert loaded.programs["count"].instructions > 5


def test_a_context_goes_in_and_comes_out(loaded):
    skb = bytearray(192)
    skb[8:12] = (5).to_bytes(4, "little")  # mark
    run = loaded.programs["count"].test_run(bytes(60), ctx=bytes(skb))
    assert int.from_bytes(run.ctx[8:12], "little") == 5


def test_a_test_run_that_the_kernel_refuses_is_an_error(loaded):
    with pytest.raises(CiliumpyError, match="test run of program count: Invalid argument"):
        loaded.programs["count"].test_run(b"short")


def test_the_verifiers_refusal_is_one_readable_error(compiled):
    before = open_descriptors()
    with pytest.raises(CiliumpyError) as refused:
        load_object(compiled("refused"))
    message = refused.value.message
    assert message.startswith("the kernel's verifier refused program 'careless' of refused.o:\n")
    assert message.endswith("R0 invalid mem access 'map_value_or_null'")
    assert "return *value;" in message, "the source line is quoted"
    assert len(message.splitlines()) <= 13
    assert refused.value.hint
    assert open_descriptors() == before


def test_the_decisive_lines_are_the_last_without_statistics():
    log = "0: (b4) w1 = 0 ; R1_w=0\n;  @ a.c:0\nR0 invalid\nprocessed 9 insns (limit 1000000) max_states 0\n\n"
    assert decisive_lines(log) == ["0: (b4) w1 = 0", "R0 invalid"]


def test_a_file_that_is_no_object_is_refused(tmp_path):
    path = tmp_path / "nothing.o"
    with pytest.raises(CiliumpyError, match=re.escape(f"cannot open BPF object {path}")):
        load_object(path)
    path.write_bytes(b"no object")
    with pytest.raises(CiliumpyError, match=re.escape(f"cannot open BPF object {path}")):
        load_object(path)


def test_nothing_stays_open_after_close(sample):
    load_object(sample).close()
    before = open_descriptors()
    load_object(sample).close()
    assert open_descriptors() == before


def test_pinned_maps_are_taken_over_with_what_they_hold(sample, pins):
    folder = pins / "maps"
    with load_object(sample, pin_dir=folder) as first:
        first.maps["s_sparse_v1"].update(1, 11)
        ids = {name: one.id for name, one in first.maps.items() if not name.endswith("rodata")}
    assert sorted(path.name for path in folder.iterdir()) == sorted(ids)
    with load_object(sample, pin_dir=folder, rodata={"cfg_number": 1}) as second:
        assert {name: one.id for name, one in second.maps.items() if name in ids} == ids
        assert second.maps["s_sparse_v1"].lookup(1) == 11
        with second.maps["s_rings_v1"].inner(b"\0\0\0\0") as ring:
            assert ring.max_entries == 1 << 20


def test_a_map_that_is_missing_among_the_pins_is_made_again(sample, pins):
    load_object(sample, pin_dir=pins).close()
    (pins / "s_sparse_v1").unlink()
    load_object(sample, pin_dir=pins).close()
    with Map.open_pinned(pins / "s_sparse_v1") as again:
        assert len(again.items()[0]) == 0


def test_a_pinned_map_of_another_layout_is_refused_and_kept(sample, pins):
    load_object(sample, pin_dir=pins).close()
    with pytest.raises(CiliumpyError) as refused:
        load_object(sample, pin_dir=pins, max_entries={"s_hash_v1": 77})
    assert refused.value.message == (
        f"map {pins}/s_hash_v1 has another layout: pinned is hash, key 8, value 104, 1000 entries, flags 0x0; "
        "needed is hash, key 8, value 104, 77 entries, flags 0x0"
    )
    assert (pins / "s_hash_v1").exists()


def test_a_struct_that_changed_within_its_size_is_another_layout_too(compiled, pins):
    load_object(compiled("sample"), pin_dir=pins).close()
    changed = compiled("changed")
    with pytest.raises(CiliumpyError, match="s_hash_v1 has another layout: its struct shapes has changed"):
        load_object(changed, pin_dir=pins)


def test_when_a_load_fails_nothing_is_pinned(compiled, pins):
    with pytest.raises(CiliumpyError):
        load_object(compiled("refused"), pin_dir=pins)
    assert list(pins.iterdir()) == []


def test_when_a_pin_fails_those_before_it_are_removed(sample, pins, monkeypatch):
    real = Map.pin

    def fail_late(self, path):
        if self.name == "s_lpm_v1":
            path.mkdir()
        real(self, path)

    monkeypatch.setattr(Map, "pin", fail_late)
    with pytest.raises(CiliumpyError, match="cannot pin map s_lpm_v1"):
        load_object(sample, pin_dir=pins)
    assert [path.name for path in pins.iterdir()] == ["s_lpm_v1"]
    (pins / "s_lpm_v1").rmdir()


class OldLibrary:
    """What libbpf 0.8 says of itself."""

    def __init__(self, *_, **__):
        self.libbpf_major_version = lambda: 0
        self.libbpf_minor_version = lambda: 8


def test_a_libbpf_that_is_too_old_is_refused(monkeypatch):
    monkeypatch.setattr(libbpf.ctypes, "CDLL", OldLibrary)
    with pytest.raises(CiliumpyError, match=r"libbpf 0\.8 is too old, 1\.0 is needed"):
        libbpf.library.__wrapped__()


def test_without_libbpf_it_says_what_to_install(monkeypatch):
    def missing(*_, **__):
        raise OSError("cannot open shared object file")

    monkeypatch.setattr(libbpf.ctypes, "CDLL", missing)
    with pytest.raises(CiliumpyError) as refused:
        libbpf.library.__wrapped__()
    assert refused.value.hint == "install it: apt-get install libbpf1"
