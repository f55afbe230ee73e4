# SPDX-License-Identifier: Apache-2.0
"""The files of the store: which count, how one is read, and how one is written so that nobody sees half of it."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress
from typing import NamedTuple

from ciliumpy.model.documents import MOST_BYTES, DocumentError
from ciliumpy.store.directory.kernel import rename_new

MARKER = "cluster.yaml"
SUFFIXES = (".yaml", ".yml", ".json")
SETTLED_NS = 200_000_000
_BACK_NS = 1_000_000_000


class Signature(NamedTuple):
    """What tells two states of a file apart without reading it."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def counts(name: str) -> bool:
    """Whether a file of that name holds objects."""
    return name.endswith(SUFFIXES) and not name.startswith(".")


def signature(status: os.stat_result) -> Signature:
    return Signature(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def settled(status: os.stat_result) -> bool:
    """Whether a file that was found, and not announced, can be taken as complete: nobody wrote to it just now."""
    return not 0 <= time.time_ns() - status.st_mtime_ns < SETTLED_NS


def read(path: str) -> tuple[bytes, Signature]:
    """Return content and signature. OSError if it cannot be read, DocumentError if it is no file or far too large."""
    # Without blocking, for a pipe that somebody named x.yaml has no writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DocumentError("is not a file")
        parts = []
        left = MOST_BYTES + 1
        while left > 0 and (part := os.read(descriptor, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts), signature(status)
    finally:
        os.close(descriptor)


def write(path: str, data: bytes, *, replace: bool) -> None:
    """Write a file in one step, making its folders. FileExistsError if it exists and shall not be replaced."""
    folder, name = os.path.split(path)
    try:
        os.makedirs(folder, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder) from None
    temporary = os.path.join(folder, f".{name}.{os.getpid()}-{time.monotonic_ns()}")
    try:
        write_settled(temporary, data)
        if replace:
            os.replace(temporary, path)
        else:
            rename_new(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_settled(path: str, data: bytes) -> None:
    """Write a new file that nobody looks at yet.

    Its time is set a second back, so that whoever finds it in a new folder takes it as `settled`.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        back = time.time_ns() - _BACK_NS
        os.utime(descriptor, ns=(back, back))
    finally:
        os.close(descriptor)
