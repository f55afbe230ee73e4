# SPDX-License-Identifier: Apache-2.0
"""Network namespaces: open descriptors, entered by a thread that lives for one call."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.net import libc

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

_OWN = "/proc/thread-self/ns/net"


def open_path(path: str | os.PathLike[str]) -> int:
    """Return a descriptor of the namespace at `path` (a bind mount or /proc/PID/ns/net). The caller closes it."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CiliumpyError(
            f"cannot open the network namespace {path}: {error.strerror}",
            "see that the path exists and that you are root",
        ) from error


def open_own() -> int:
    """Return a descriptor of the calling thread's namespace."""
    return open_path(_OWN)


def run_in(fd: int | None, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `function(*args)` as called inside the namespace `fd`; None is the caller's own. Exceptions come through.

    The thread never returns to the pool it did not come from: a thread that has changed its namespace must not be used
    for anything else.
    """
    if fd is None:
        return function(*args, **kwargs)
    results: list[T] = []
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            _enter(fd)
            results.append(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=enter, name=f"netns-{fd}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _enter(fd: int) -> None:
    try:
        libc.setns(fd, libc.CLONE_NEWNET)
    except OSError as error:
        raise CiliumpyError(
            f"cannot enter a network namespace: {error.strerror}",
            "it takes CAP_SYS_ADMIN and a file that is a network namespace",
        ) from error


def new_namespace(bind_path: str | os.PathLike[str] | None = None) -> int:
    """Make a network namespace with `lo` down and return its descriptor; `bind_path`, made if missing, keeps it alive.

    A path where a namespace is mounted already is an error: the caller decides what becomes of the old one.
    """
    made: list[int] = []

    def make() -> None:
        libc.unshare(libc.CLONE_NEWNET)
        fd = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if bind_path is not None:
                _bind(fd, Path(bind_path))
        except BaseException:
            os.close(fd)
            raise
        made.append(fd)

    own = open_own()
    try:
        run_in(own, make)
    except OSError as error:
        raise CiliumpyError(
            f"cannot make a network namespace{f' at {bind_path}' if bind_path else ''}: {error.strerror}",
            "it takes root with CAP_SYS_ADMIN",
        ) from error
    finally:
        os.close(own)
    return made[0]


def _bind(fd: int, path: Path) -> None:
    if is_namespace(path):
        raise CiliumpyError(f"a namespace is mounted on {path} already", f"remove it: umount {path}")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    try:
        # /proc/self would be the process's main thread, which is in another namespace than this one.
        libc.mount(f"/proc/{os.getpid()}/fd/{fd}", str(path), flags=libc.MS_BIND)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def is_namespace(path: str | os.PathLike[str]) -> bool:
    """Tell whether a network namespace is mounted at `path`."""
    try:
        return Path(path).stat().st_dev == Path(_OWN).stat().st_dev
    except OSError:
        return False


def remove_namespace(bind_path: str | os.PathLike[str]) -> None:
    """Unmount and delete `bind_path`; the namespace ends with its last process. What is missing is no error."""
    path = Path(bind_path)
    while is_namespace(path):
        libc.umount(str(path), libc.MNT_DETACH)
    path.unlink(missing_ok=True)


def number_of(fd: int) -> int:
    """Return the number by which this namespace knows that one, as links name it; -1: it has none."""
    from ciliumpy.net.netlink import conversation  # noqa: PLC0415 - it loads pyroute2, this module is early

    with conversation("cannot ask for a namespace's number") as route:
        number = route.get_netnsid(fd=fd)["nsid"]
        return -1 if number is None else int(number)


def cookie(fd: int | None = None) -> int:
    """Return the kernel's cookie of the namespace, a number that is never given out again."""
    return run_in(fd, _own_cookie)


def _own_cookie() -> int:
    import socket  # noqa: PLC0415 - one caller, and this module is loaded early

    so_netns_cookie = 71
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, so_netns_cookie, 8), "little")
