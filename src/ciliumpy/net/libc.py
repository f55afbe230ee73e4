# SPDX-License-Identifier: Apache-2.0
"""The few system calls about namespaces, mounts and privileges that Python 3.11 lacks. They raise OSError."""

from __future__ import annotations

import ctypes
import functools
import os
import struct

CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x4_0000
MS_SLAVE = 0x8_0000
MNT_DETACH = 0x2


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def setns(fd: int, kind: int = 0) -> None:
    """Move the calling thread into the namespace(s) of `fd`: a namespace file, or with `kind` bits also a pidfd."""
    _check(_libc().setns(fd, kind), "setns")


def unshare(flags: int) -> None:
    _check(_libc().unshare(flags), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    _check(
        _libc().mount(
            source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
        ),
        f"mount {source} on {target}",
    )


def umount(target: str, flags: int = 0) -> None:
    _check(_libc().umount2(target.encode(), flags), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    _check(_libc().pivot_root(new_root.encode(), put_old.encode()), f"pivot_root to {new_root}")


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """Return prctl's own result, which is never negative."""
    arguments = (ctypes.c_ulong(a) for a in (arg2, arg3, arg4, arg5))
    result = int(_libc().prctl(option, *arguments))
    if result < 0:
        _check(result, f"prctl {option}")
    return result


def capset(*, effective: int, permitted: int, inheritable: int) -> None:
    """Set the calling thread's capabilities, each a mask of 64 bits."""
    version_3 = 0x2008_0522
    header = struct.pack("=Ii", version_3, 0)
    low, high = 0xFFFF_FFFF, 32
    halves = [m & low for m in (effective, permitted, inheritable)] + [
        m >> high for m in (effective, permitted, inheritable)
    ]
    _check(_libc().capset(header, struct.pack("=6I", *halves)), "capset")


def own_root() -> None:
    """Make the calling process's root, in a mount namespace of its own, that namespace's root, with nothing above it.

    After a chroot the root is a directory of some mount and the namespace's root lies beyond it: it could be reached
    again, and nothing can be mounted on "/".
    """
    pivot_root, open_tree, move_mount = 155, 428, 429
    at_empty_path, at_recursive, clone, from_empty, to_empty = 0x1000, 0x8000, 0x1, 0x4, 0x40
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(namespace, CLONE_NEWNS)  # ends a chroot: "/" is a mount now
        mount("none", "/", flags=MS_REC | MS_PRIVATE)
        tree = _libc().syscall(open_tree, root, b"", clone | at_recursive | at_empty_path | os.O_CLOEXEC)
        _check(min(tree, 0), "copy the root")
        _check(_libc().syscall(move_mount, tree, b"", root, b"", from_empty | to_empty), "mount the root")
        os.fchdir(tree)
        os.close(tree)
    finally:
        os.close(namespace)
        os.close(root)
    _check(_libc().syscall(pivot_root, b".", b"."), "change the root")
    umount(".", MNT_DETACH)  # the former root, now stacked upon the new one
    os.chdir("/")


def set_readonly_recursive(path: str) -> None:
    """Make the mount at `path` and all below it read-only, for the calling process's mount namespace."""
    mount_setattr, at_fdcwd, at_recursive, readonly = 442, -100, 0x8000, 0x1
    attributes = struct.pack("=4Q", readonly, 0, 0, 0)
    result = _libc().syscall(mount_setattr, at_fdcwd, path.encode(), at_recursive, attributes, len(attributes))
    _check(result, f"make {path} read-only")
