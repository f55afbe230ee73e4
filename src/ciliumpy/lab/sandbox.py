# SPDX-License-Identifier: Apache-2.0
"""Turns a forked process into the first process of a pod: its namespaces, and what of the machine it may see.

The pod sees the machine's files read-only. It has its own /proc, /sys (of its network namespace), /dev, /run, /tmp and
/var/tmp, so that sockets, store, bpffs and cgroups are not merely closed but not there. What must stay hidden and has
been mounted elsewhere too is covered at each place.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ciliumpy.lab import machine
from ciliumpy.net import libc

NAMESPACES = libc.CLONE_NEWNS | libc.CLONE_NEWUTS | libc.CLONE_NEWIPC | libc.CLONE_NEWPID | libc.CLONE_NEWCGROUP
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}

_QUIET = libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC
_HIDDEN = ("/run", "/var/lib/ciliumpy", "/etc/ciliumpy")
_HIDDEN_KINDS = frozenset({"bpf", "cgroup", "cgroup2", "proc", "sysfs", "tracefs", "debugfs", "securityfs", "nsfs"})
_SCRATCH = ("/tmp", "/var/tmp")  # noqa: S108 - the machine's have sockets that root's programs listen on
_RESOLV_CONF = "# A lab has no name server; /etc/hosts has its names.\noptions attempts:1 timeout:1\n"
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
_REPLACED = ("/sys", "/dev")  # and /proc, which is needed to the last
_PROC_READONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_PROC_MASKED = ("kcore", "keys", "latency_stats", "timer_list", "sched_debug", "acpi", "scsi")


class View(NamedTuple):
    """What a pod shall see. `hidden` are directories beyond the usual ones."""

    hostname: str
    hosts: str  # file that is its /etc/hosts
    hidden: tuple[str, ...]

    @classmethod
    def of(cls, request: dict[str, Any]) -> View:
        return cls(request["hostname"], request["hosts"], tuple(request["hidden"]))


def furnish(view: View) -> None:
    """Set up the mounts and the name, as the first process in fresh namespaces, still with all capabilities."""
    _take_root_along()
    hosts = os.open(view.hosts, os.O_RDONLY | os.O_CLOEXEC)
    _hide((*_HIDDEN, *view.hidden))
    libc.set_readonly_recursive("/")
    for path in _SCRATCH:
        if Path(path).is_dir():
            libc.mount("tmpfs", path, "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, "mode=1777,size=64m")
    libc.mount("sysfs", "/sys", "sysfs", _QUIET | libc.MS_RDONLY)
    _dev()
    _proc()
    libc.mount("tmpfs", "/run", "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, "mode=0755,size=16m")
    _put(f"/proc/self/fd/{hosts}", "/etc/hosts")
    os.close(hosts)
    _no_name_server()
    socket.sethostname(view.hostname)
    os.chdir("/")


def _take_root_along() -> None:
    """Make a private copy of what is mounted at and below the present root the namespace's real root.

    The present one may be a plain directory that somebody has changed root to: whoever joins the namespace later, or
    breaks out of such a root, would then see more than the pod shall.
    """
    here = os.open("/", os.O_PATH | os.O_DIRECTORY)
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    libc.setns(namespace, libc.CLONE_NEWNS)
    libc.mount("none", "/", flags=libc.MS_REC | libc.MS_PRIVATE)
    os.fchdir(here)
    libc.mount(".", "proc", flags=libc.MS_BIND | libc.MS_REC)
    os.chdir("proc")
    libc.pivot_root(".", ".")
    libc.umount(".", libc.MNT_DETACH)
    os.chdir("/")
    os.close(here)
    os.close(namespace)


def _put(source: str, target: str) -> None:
    libc.mount(source, target, flags=libc.MS_BIND)
    libc.mount("none", target, flags=libc.MS_BIND | libc.MS_REMOUNT | libc.MS_RDONLY | _QUIET)


def _no_name_server() -> None:
    """Have names that are not in /etc/hosts fail at once: the machine's name server is not to be reached from here."""
    goal = Path("/etc/resolv.conf").resolve()
    if goal.is_relative_to("/run"):
        goal.parent.mkdir(parents=True, exist_ok=True)
        goal.write_text(_RESOLV_CONF)
    elif goal.exists():
        made = Path("/run/resolv.conf")
        made.write_text(_RESOLV_CONF)
        _put(str(made), str(goal))
        made.unlink()


def _hide(directories: tuple[str, ...]) -> None:
    """Take the kernel's and our own file systems away: unmounted where they can be, covered where they are."""
    covered = [p for d in directories if Path(d).is_dir() for p in machine.places_of(Path(d).resolve())]
    while [mount for mount in _unwanted(covered) if _let_go(mount.point)]:
        continue
    for place in [*covered, *(Path(mount.point) for mount in _unwanted(covered))]:
        if place.is_dir():
            libc.mount("tmpfs", str(place), "tmpfs", _QUIET | libc.MS_RDONLY, "mode=0555,size=4k")


def _unwanted(covered: list[Path]) -> list[machine.Mount]:
    """Return the mounts to take away, those above first: with one goes all that is below it."""
    return [
        mount
        for mount in machine.mounts()
        if mount.point in _REPLACED
        or (not mount.point.startswith("/proc") and mount.kind in _HIDDEN_KINDS)
        or any(_is_below(mount.point, place) for place in covered)
    ]


def _is_below(point: str, place: Path) -> bool:
    return Path(point) != place and Path(point).is_relative_to(place)


def _let_go(point: str) -> bool:
    """Unmount it; False if it went with the one above it, or is there for ever."""
    try:
        libc.umount(point, libc.MNT_DETACH)
    except OSError:
        return False
    return True


def _proc() -> None:
    while _let_go("/proc"):
        continue
    libc.mount("proc", "/proc", "proc", _QUIET)
    for name in _PROC_READONLY:
        path = f"/proc/{name}"
        if Path(path).exists():
            libc.mount(path, path, flags=libc.MS_BIND | libc.MS_REC)
            libc.mount("none", path, flags=libc.MS_BIND | libc.MS_REMOUNT | libc.MS_RDONLY | _QUIET)
    for name in _PROC_MASKED:
        masked = Path("/proc") / name
        if masked.is_dir():
            libc.mount("tmpfs", str(masked), "tmpfs", _QUIET | libc.MS_RDONLY)
        elif masked.exists():
            libc.mount("/dev/null", str(masked), flags=libc.MS_BIND)


def _dev() -> None:
    libc.mount("tmpfs", "/dev", "tmpfs", libc.MS_NOSUID | libc.MS_NOEXEC, "mode=0755,size=64k")
    mask = os.umask(0)
    for name, (major, minor) in _DEVICES.items():
        os.mknod(f"/dev/{name}", 0o666 | stat.S_IFCHR, os.makedev(major, minor))
    os.umask(mask)
    for name, goal in _DEVICE_LINKS.items():
        Path("/dev", name).symlink_to(goal)
    Path("/dev/pts").mkdir()
    with suppress(OSError):  # a kernel without pseudo terminals
        libc.mount("devpts", "/dev/pts", "devpts", libc.MS_NOSUID | libc.MS_NOEXEC, "newinstance,ptmxmode=0666")
    Path("/dev/shm").mkdir()  # noqa: S108
    libc.mount("tmpfs", "/dev/shm", "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, "mode=1777,size=64m")  # noqa: S108
