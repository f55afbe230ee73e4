# SPDX-License-Identifier: Apache-2.0
"""The parts of the guest that need no boot."""

from __future__ import annotations

import os
import struct

import pytest

from tests.kernels import instructions, kernels


def test_a_signature_is_cut_off_a_module(tmp_path):
    path = tmp_path / "x.ko"
    signature = b"s" * 77
    path.write_bytes(b"module" + signature + struct.pack(">8xI", len(signature)) + b"~Module signature appended~\n")
    assert kernels._module(path) == b"module"
    path.write_bytes(b"unsigned")
    assert kernels._module(path) == b"unsigned"


def test_modules_come_after_what_they_need(tmp_path):
    tree, target = tmp_path / "tree", tmp_path / "target"
    (tree / "net").mkdir(parents=True)
    target.mkdir()
    for name, needed in {"vxlan": "udp_tunnel,other", "udp_tunnel": "", "other": "udp_tunnel", "unwanted": ""}.items():
        (tree / "net" / f"{name.replace('_', '-')}.ko").write_bytes(f"x\0depends={needed}\0".encode())
    assert kernels._copy_modules(tree, target) == ["udp_tunnel.ko", "other.ko", "vxlan.ko"]
    assert sorted(path.name for path in target.iterdir()) == ["other.ko", "udp_tunnel.ko", "vxlan.ko"]


def test_without_a_package_it_says_so_and_an_old_one_does(monkeypatch, tmp_path):
    monkeypatch.setattr(kernels.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(kernels, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(kernels, "_find", lambda *_: None)
    monkeypatch.setattr(kernels, "_own_lists", lambda *_: [])
    series = kernels.SERIES[1]
    with pytest.raises(kernels.UnavailableError, match=r"no package of Linux 6\.12-trixie in apt's lists"):
        kernels.fetch(series)
    home = tmp_path / "cache" / series.name
    home.mkdir()
    (home / "release").write_text("6.12.1")
    (home / "order").write_text("a.ko\nb.ko\n")
    os.utime(home / "order", (0, 0))
    assert kernels.fetch(series) == ("6.12.1", home / "vmlinux", home, ("a.ko", "b.ko"))


def test_what_has_changed_by_more_than_noise_is_a_table():
    known = {"clang-16": {"pod": 1000, "host": 1000, "overlay": 1000}}
    found = {"clang-16": {"pod": 1029, "host": 1031, "overlay": 900}, "clang-19": {"pod": 5}}
    assert instructions.changes(known, {"clang-16": {"pod": 1029}}) == ""
    table = instructions.changes(known, found).splitlines()
    assert [line.split() for line in table] == [
        ["COMPILER", "PROGRAM", "WRITTEN", "NOW", "CHANGE"],
        ["clang-16", "host", "1,000", "1,031", "+3.1", "%"],
        ["clang-16", "overlay", "1,000", "900", "-10.0", "%"],
        ["clang-19", "pod", "0", "5"],
    ]
