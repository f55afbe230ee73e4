# SPDX-License-Identifier: Apache-2.0
"""The parts of the guest that need no boot."""

from __future__ import annotations

import struct

import pytest

from tests.kernels import kernels


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


def test_without_a_package_it_says_so(monkeypatch):
    monkeypatch.setattr(kernels.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(kernels, "_find", lambda *_: None)
    monkeypatch.setattr(kernels, "_own_lists", lambda _: [])
    with pytest.raises(kernels.UnavailableError, match=r"no package of Linux 6\.12 in apt's lists"):
        kernels.fetch("6.12")
