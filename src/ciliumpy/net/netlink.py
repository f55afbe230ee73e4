# SPDX-License-Identifier: Apache-2.0
"""One netlink conversation in the calling thread's namespace, with the kernel's refusals made readable."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Iterator

_HINTS = {
    errno.EPERM: "run it as root (CAP_NET_ADMIN)",
    errno.EACCES: "run it as root (CAP_NET_ADMIN)",
    errno.ENODEV: "the device is gone; see `ip link`",
    errno.EOPNOTSUPP: "the kernel lacks this feature; see `ciliumpy preflight`",
    errno.EEXIST: "something else made it; see `ip link` and `ip route`",
}


class KernelRefusalError(CiliumpyError):
    """The kernel's answer to a netlink request, with its error number in `code`."""

    def __init__(self, what: str, error: NetlinkError) -> None:
        self.code = int(error.code)
        super().__init__(f"{what}: {os.strerror(self.code)}", _HINTS.get(self.code, "see the kernel log (dmesg)"))


class _Open(threading.local):
    """The socket of the calling thread's session."""

    route: IPRoute | None = None


_open = _Open()


@contextmanager
def session() -> Iterator[None]:
    """Let all conversations of this thread within the block share a socket: half of a short one is its beginning.

    The socket is of the namespace that the thread is in now.
    """
    if _open.route is not None:
        yield
        return
    with IPRoute() as route:
        _open.route = route
        try:
            yield
        finally:
            _open.route = None


@contextmanager
def conversation(what: str) -> Iterator[Any]:
    """Yield a pyroute2 IPRoute; what the kernel refuses inside is raised as KernelRefusalError("<what>: <why>")."""
    with session():
        try:
            yield _open.route
        except NetlinkError as error:
            raise KernelRefusalError(what, error) from error


def attribute(message: Any, name: str) -> Any:
    """Return the attribute of a netlink message, or None."""
    return message.get_attr(name)
