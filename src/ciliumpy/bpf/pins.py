# SPDX-License-Identifier: Apache-2.0
"""The BPF file system, where maps and links are pinned: found, or mounted. Standard library only."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from ciliumpy.kit.errors import CiliumpyError

DEFAULT = Path("/sys/fs/bpf")


def find_bpffs() -> Path | None:
    """Where a BPF file system is mounted in this mount namespace: the usual place if it is there, else the first."""
    found = []
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
        _, where, kind, *_ = line.split(" ")
        if kind == "bpf":
            found.append(Path(where.replace(r"\040", " ")))
    return DEFAULT if DEFAULT in found else next(iter(found), None)


def mounted() -> Path:
    """Find it or mount it at /sys/fs/bpf (0700, as systemd does)."""
    found = find_bpffs()
    if found is not None:
        return found
    libc = ctypes.CDLL(None, use_errno=True)
    nosuid_nodev_noexec = 2 | 4 | 8
    if libc.mount(b"bpf", os.fsencode(DEFAULT), b"bpf", ctypes.c_ulong(nosuid_nodev_noexec), b"mode=0700") < 0:
        number = ctypes.get_errno()
        if find_bpffs() is None:  # nobody else was quicker
            raise CiliumpyError(
                f"cannot mount the BPF file system at {DEFAULT}: {os.strerror(number)}",
                hint=f"as root: mount -t bpf bpf {DEFAULT}",
            )
    return DEFAULT
