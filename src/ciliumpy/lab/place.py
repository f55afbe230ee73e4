# SPDX-License-Identifier: Apache-2.0
"""Where a lab's things are. Every one can be found again from the lab's name alone."""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.client import target
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEFAULT_NAME = "lab"
# A socket's path has 107 bytes: /run/ciliumpy/labs/<lab>/<node>/hubble.sock must fit.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?")
_RESERVED = frozenset({"store", "netns", "pods", "hosts", "controller", "wire", "world"})


def check_name(name: str, what: str) -> str:
    """Return `name` if a lab or node may have it."""
    if not _NAME.fullmatch(name) or (what == "node" and name in _RESERVED):
        why = "is taken by the lab itself" if name in _RESERVED else "must be 1 to 30 of a-z, 0-9 and -"
        raise CiliumpyError(f"the {what} name {name!r} {why}", exit_code=2)
    return name


class Place(NamedTuple):
    """A lab's directories. `of` needs nothing to exist."""

    name: str
    run: Path
    bpffs: Path
    cgroup: Path

    @classmethod
    def of(cls, name: str) -> Place:
        check_name(name, "lab")
        return cls(
            name,
            target.run_dir() / "labs" / name,
            machine.BPFFS / "ciliumpy" / "labs" / name,
            machine.cgroup_root() / "ciliumpy" / "labs" / name,
        )

    @property
    def file(self) -> Path:
        """The lab as it was asked for: `lab up` writes it, everybody may read it."""
        return self.run / "lab.json"

    @property
    def store(self) -> Path:
        return self.run / "store"

    @property
    def pods(self) -> Path:
        return self.run / "pods"

    @property
    def hosts(self) -> Path:
        return self.run / "hosts"

    def netns(self, name: str) -> Path:
        return self.run / "netns" / name

    def node(self, name: str) -> Path:
        return self.run / name


@contextmanager
def lock(name: str, doing: str) -> Iterator[None]:
    """Hold the lab against another `lab up` or `lab down`; CiliumpyError that says who holds it."""
    check_name(name, "lab")
    path = target.run_dir() / "labs" / f".{name}.lock"
    while True:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # the last holder of another lock has removed the empty folder in between
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(fd)
            raise CiliumpyError(
                f"lab {name!r} is being changed by {holder}", "wait until it has ended, or stop it"
            ) from None
        if _is_still(path, fd):
            break
        os.close(fd)  # the last holder has removed the file in between
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"`{doing}` (pid {os.getpid()})\n".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)
        with suppress(OSError):  # what is not empty stays
            path.parent.rmdir()
            path.parent.parent.rmdir()


def _is_still(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def only_lab(name: str | None) -> Place:
    """Return the lab of that name, that of `CILIUMPY_LAB`, or the only one there is.

    CiliumpyError (2) if it is not there or not clear.
    """
    labs = target.labs()
    name = target.preferred() if name is None else name
    if name is not None and name not in labs:
        raise target.no_lab(name)
    if not labs:
        raise CiliumpyError("there is no lab", "`ciliumpy lab up` makes one")
    if name is None and len(labs) > 1:
        raise target.several(labs)
    return Place.of(name or labs[0])
