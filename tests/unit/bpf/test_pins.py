# SPDX-License-Identifier: Apache-2.0
"""The BPF file system is found, or mounted."""

from __future__ import annotations

import subprocess
import sys as python

import pytest

from ciliumpy.bpf import pins

IN_A_MOUNT_NAMESPACE = """
import os, subprocess
from ciliumpy.bpf import pins
from ciliumpy.net import libc
libc.unshare(libc.CLONE_NEWNS)
libc.own_root()
while (found := pins.find_bpffs()):
    subprocess.run(["umount", "-l", found], check=True)
print(pins.mounted(), pins.find_bpffs(), oct(os.stat("/sys/fs/bpf").st_mode & 0o777))
subprocess.run(["umount", "/sys/fs/bpf"], check=True)
"""


@pytest.mark.root
def test_it_is_mounted_where_it_is_missing():
    done = subprocess.run([python.executable, "-c", IN_A_MOUNT_NAMESPACE], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["/sys/fs/bpf", "/sys/fs/bpf", "0o700"], done.stderr


@pytest.mark.root
def test_what_is_mounted_is_used():
    assert pins.mounted() == pins.find_bpffs()


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ("tmpfs /run tmpfs rw 0 0\n", None),
        ("bpf /sys/fs/bpf bpf rw 0 0\n", "/sys/fs/bpf"),
        ("none /mnt/with\\040space bpf rw 0 0\n", "/mnt/with space"),
        ("none /mnt/other bpf rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n", "/sys/fs/bpf"),
    ],
)
def test_the_usual_place_comes_first(table, found, monkeypatch):
    monkeypatch.setattr(pins.Path, "read_text", lambda *_, **__: table)
    assert pins.find_bpffs() == (pins.Path(found) if found else None)
