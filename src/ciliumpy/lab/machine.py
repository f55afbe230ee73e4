# SPDX-License-Identifier: Apache-2.0
"""What the lab finds on the machine: its mounts, the cgroup v2 tree, the BPF file system."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.net import libc

BPFFS = Path("/sys/fs/bpf")
_CGROUP = Path("/sys/fs/cgroup")


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo (proc_pid_mountinfo(5))."""

    device: str  # major:minor
    root: str  # the directory of the file system that is mounted
    point: str
    kind: str


def mounts() -> list[Mount]:
    """Return this process's mounts, in the order in which they were made."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields = line.split(" ")
        kind = fields[fields.index("-") + 1]
        found.append(Mount(fields[2], _unescape(fields[3]), _unescape(fields[4]), kind))
    return found


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text)


def places_of(directory: Path) -> list[Path]:
    """Return every path at which the directory can be reached, through bind mounts too; itself first."""
    itself = directory.stat()
    present = mounts()
    home = max(
        (m for m in present if directory.is_relative_to(m.point)), key=lambda m: (len(m.point), present.index(m))
    )
    inside = Path(home.root) / directory.relative_to(home.point)
    places = [directory]
    for mount in present:
        if mount.device != home.device or not inside.is_relative_to(mount.root):
            continue
        candidate = Path(mount.point) / inside.relative_to(mount.root)
        if candidate not in places and candidate.is_dir() and os.path.samestat(candidate.stat(), itself):
            places.append(candidate)
    return places


def need_root() -> None:
    if os.geteuid() != 0:
        raise CiliumpyError("a lab needs root", "run it with sudo; `ciliumpy preflight` lists what else is needed")


def cgroup_root() -> Path:
    """Return where cgroup v2 is mounted, mounting it on an empty /sys/fs/cgroup if it is nowhere."""
    for mount in mounts():
        if mount.kind == "cgroup2":
            return Path(mount.point)
    try:
        if not any(_CGROUP.iterdir()):
            libc.mount("cgroup2", str(_CGROUP), "cgroup2", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
            return _CGROUP
    except OSError as error:
        raise CiliumpyError(
            f"cgroup v2 is not mounted and cannot be: {error}", f"mount -t cgroup2 none {_CGROUP}"
        ) from error
    raise CiliumpyError("cgroup v2 is not mounted", "mount -t cgroup2 none /sys/fs/cgroup/unified")


def ensure_bpffs() -> None:
    """Mount the BPF file system if it is missing."""
    if any(m.kind == "bpf" and m.point == str(BPFFS) for m in mounts()):
        return
    try:
        libc.mount("bpf", str(BPFFS), "bpf", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC, "mode=0700")
    except OSError as error:
        raise CiliumpyError(
            f"the BPF file system cannot be mounted on {BPFFS}: {error.strerror}",
            "see that sysfs is mounted on /sys and the kernel has BPF; `ciliumpy preflight` tells",
        ) from error
