# SPDX-License-Identifier: Apache-2.0
"""The two calls that Python lacks: inotify, and a rename that replaces nothing."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
from typing import Any, NamedTuple, Self

CLOSE_WRITE = 0x00000008
MOVED_FROM = 0x00000040
MOVED_TO = 0x00000080
CREATE = 0x00000100
DELETE = 0x00000200
DELETE_SELF = 0x00000400
MOVE_SELF = 0x00000800
UNMOUNT = 0x00002000
OVERFLOW = 0x00004000
IGNORED = 0x00008000
ONLYDIR = 0x01000000
EXCL_UNLINK = 0x04000000
ISDIR = 0x40000000

WATCHED = (
    CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF | ONLYDIR | EXCL_UNLINK
)  # fmt: skip
_HEADER = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, len
_BUFFER = 65536
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1


class Event(NamedTuple):
    """What happened to `name` in the watched folder `wd`; the name is empty where it happened to the folder."""

    wd: int
    mask: int
    name: str


class Inotify:
    """An inotify instance. Close it, or use it as a context manager."""

    def __init__(self) -> None:
        self._libc = _libc()
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            _fail("inotify_init1")

    def add(self, folder: str) -> int:
        """Watch a folder and return its number; the same one if it is watched already."""
        wd: int = self._libc.inotify_add_watch(self.fd, os.fsencode(folder), WATCHED)
        if wd < 0:
            _fail(folder)
        return wd

    def remove(self, wd: int) -> None:
        """Stop watching; no error if the kernel has stopped by itself."""
        self._libc.inotify_rm_watch(self.fd, wd)

    def read(self) -> list[Event]:
        """Return what has happened by now; nothing where nothing has."""
        try:
            data = os.read(self.fd, _BUFFER)
        except BlockingIOError:
            return []
        events = []
        offset = 0
        while offset < len(data):
            wd, mask, _, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            name = data[offset : offset + length].rstrip(b"\0")
            offset += length
            events.append(Event(wd, mask, os.fsdecode(name)))
        return events

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def rename_new(source: str, target: str) -> None:
    """Rename, atomically; FileExistsError if the target exists.

    Where the file system cannot (NFS), a hard link does the same; the target is then opened and closed for writing, for
    that is what those who watch wait for.
    """
    if _libc().renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return
    if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
        _fail(target)
    os.link(source, target)
    os.close(os.open(target, os.O_WRONLY | os.O_CLOEXEC))
    os.unlink(source)


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _fail(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), what)
