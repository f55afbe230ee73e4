# SPDX-License-Identifier: Apache-2.0
"""What a machine needs, what it has, and the cure. Nothing is changed; without root what cannot be seen is unknown."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

KERNEL = (6, 1)  # the oldest that the datapath is tested on
PYTHON = (3, 11)
LIBBPF = (1, 0)
BACKLOG = 10_000
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_BPF": 39}
MEMCG_KERNEL = (5, 11)  # from here on maps are charged to the cgroup, and RLIMIT_MEMLOCK does not matter


class Requirement(NamedTuple):
    """`state`: ok, missing (nothing works without), low (works worse), unknown (not to be seen from here)."""

    name: str
    state: str
    found: str
    needed: str
    cure: str = ""


def check() -> list[Requirement]:
    """Look at all of them, in the order in which they are best cured."""
    checks: tuple[Callable[[], Requirement], ...] = (
        python,
        kernel,
        root,
        btf,
        libbpf,
        objects,
        bpffs,
        cgroup2,
        memlock,
        backlog,
    )
    return [each() for each in checks] + features()


def python() -> Requirement:
    found = ".".join(map(str, sys.version_info[:3]))
    return _judge("python", sys.version_info[:2] >= PYTHON, found, _dotted(PYTHON), "install a newer python3")


def kernel() -> Requirement:
    release = os.uname().release
    good = numbers(release) >= KERNEL
    return _judge("kernel", good, release, _dotted(KERNEL), "install a newer kernel and boot it")


def root() -> Requirement:
    held = capabilities(Path("/proc/self/status").read_text(encoding="ascii"))
    lacking = [name for name in CAPABILITIES if name not in held]
    found = f"uid {os.geteuid()}" if len(lacking) in (0, len(CAPABILITIES)) else f"no {', '.join(lacking)}"
    return _judge("privileges", not lacking, found, "root", f"run it as root (sudo), with {', '.join(CAPABILITIES)}")


def btf() -> Requirement:
    path = Path("/sys/kernel/btf/vmlinux")
    found = str(path) if path.exists() else "none"
    return _judge("kernel BTF", path.exists(), found, "/sys/kernel/btf/vmlinux", "boot a kernel with DEBUG_INFO_BTF=y")


def libbpf() -> Requirement:
    cure = "apt-get install libbpf1"
    try:
        library = ctypes.CDLL("libbpf.so.1")
    except OSError:
        return Requirement("libbpf", "missing", "none", _dotted(LIBBPF), cure)
    found = (library.libbpf_major_version(), library.libbpf_minor_version())
    return _judge("libbpf", found >= LIBBPF, _dotted(found), _dotted(LIBBPF), cure)


def objects() -> Requirement:
    """The compiled datapath; only where it is missing a compiler is needed."""
    from ciliumpy.bpf import build

    built = sorted(path.name for path in build.OBJECTS.glob("*.o"))
    if built:
        return Requirement("datapath objects", "ok", ", ".join(built), "built")
    try:
        clang = build.find_clang()
    except build.BuildError:
        return Requirement("clang", "missing", "none", "clang 14, to build the datapath", "apt-get install clang-16")
    return Requirement("datapath objects", "missing", f"none, but {clang}", "built", "make bpf")


def bpffs() -> Requirement:
    place = next((where for where, kind in mounts() if kind == "bpf"), None)
    if place is None:
        return Requirement("bpffs", "low", "not mounted", "mounted", "the agent does it: mount -t bpf bpf /sys/fs/bpf")
    return Requirement("bpffs", "ok", place, "mounted")


def cgroup2() -> Requirement:
    place = next((where for where, kind in mounts() if kind == "cgroup2"), None)
    cure = "mount -t cgroup2 none /sys/fs/cgroup"
    return _judge("cgroup2", place is not None, place or "not mounted", "mounted", cure)


def memlock() -> Requirement:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    found = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit >> 10} KiB"
    if numbers(os.uname().release) >= MEMCG_KERNEL:
        return Requirement("memlock", "ok", found, f"any, from kernel {_dotted(MEMCG_KERNEL)} on")
    return _judge("memlock", found == "unlimited", found, "unlimited", "ulimit -l unlimited")


def backlog() -> Requirement:
    path = Path("/proc/sys/net/core/netdev_max_backlog")
    cure = f"sysctl -w net.core.netdev_max_backlog={BACKLOG}"
    if not path.exists():
        return Requirement("netdev_max_backlog", "unknown", "not seen from this namespace", f"{BACKLOG}", cure)
    value = int(path.read_text(encoding="ascii"))
    state = "ok" if value >= BACKLOG else "low"
    return Requirement("netdev_max_backlog", state, str(value), f"{BACKLOG} (bursts between nodes)", cure)


def features() -> list[Requirement]:
    """What the kernel can do, by trying it."""
    from ciliumpy.bpf import probe

    def state(one: probe.Feature) -> tuple[str, str]:
        if one.found is None:
            return "unknown", "needs root to see"
        return ("ok", "yes") if one.found else ("low" if one.optional else "missing", "no")

    return [
        Requirement(each.name, *state(each), each.needed, "" if each.found else each.cure) for each in probe.features()
    ]


def capabilities(status: str) -> set[str]:
    """Return which of CAPABILITIES are effective, from /proc/PID/status."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    mask = int(match[1], 16) if match else 0
    return {name for name, bit in CAPABILITIES.items() if mask >> bit & 1}


def numbers(release: str) -> tuple[int, ...]:
    """Return the first two numbers of a kernel release."""
    return tuple(int(part) for part in re.findall(r"\d+", release)[:2])


def mounts() -> Iterator[tuple[str, str]]:
    """Yield (place, type) of all mounts."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
        _, place, kind, *_ = line.split(" ")
        yield place, kind


def _judge(name: str, good: bool, found: str, needed: str, cure: str) -> Requirement:
    return Requirement(name, "ok" if good else "missing", found, needed, cure)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
