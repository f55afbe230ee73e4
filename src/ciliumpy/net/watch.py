# SPDX-License-Identifier: Apache-2.0
"""Hears of changed links, addresses and routes of one namespace. What they are now is read elsewhere, when needed."""

from __future__ import annotations

import errno
import socket
import struct

_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # RTMGRP_: link, v4 address, v4 route, v6 address, v6 route
_LINK, _ADDRESS, _ROUTE = (16, 17), (20, 21), (24, 25)  # RTM_NEW*, RTM_DEL*
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")
_ROUTE_BODY = 12  # struct rtmsg
_LINK_BODY = 16  # struct ifinfomsg
_RTA_OIF = 4
_IFLA_IFNAME = 3
_NEW_LINK = 16
_REMEMBERED = 4096
EVERYTHING = 0


class Watch:
    """A netlink socket in the namespace of the thread that makes it. Non-blocking; `fileno` is for a loop.

    Nothing is told of links whose names begin with `ignore`: not of themselves, their addresses, or routes over them,
    nor of what the kernel says of them after they have gone.
    """

    def __init__(self, ignore: str = "\n") -> None:
        self._buffer = memoryview(bytearray(1 << 16))
        self._ignore = ignore.encode()
        self._ignored: dict[int, None] = {}  # the latest ones, in order
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        try:
            self._socket.bind((0, _GROUPS))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> set[int]:
        """Return the ifindexes of what changed since the last call; EVERYTHING is in it where that is not known."""
        changed: set[int] = set()
        while True:
            try:
                changed |= self._changed(bytes(self._buffer[: self._socket.recv_into(self._buffer)]))
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                changed.add(EVERYTHING)  # more than the socket could hold

    def close(self) -> None:
        self._socket.close()

    def _changed(self, data: bytes) -> set[int]:
        found: set[int] = set()
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, *_ = _HEADER.unpack_from(data, offset)
            body = data[offset + _HEADER.size : offset + length]
            if length < _HEADER.size:
                break
            if kind in _LINK or kind in _ADDRESS:
                index = int.from_bytes(body[4:8], "little")  # ifi_index, ifa_index
                if kind in _LINK:
                    self._note(index, _attribute(body, _LINK_BODY, _IFLA_IFNAME), new=kind == _NEW_LINK)
                found.add(index)
            elif kind in _ROUTE:
                found.add(int.from_bytes(_attribute(body, _ROUTE_BODY, _RTA_OIF), "little"))  # none: over several
            offset += (length + 3) & ~3
        return found - self._ignored.keys()

    def _note(self, index: int, name: bytes, *, new: bool) -> None:
        if name.startswith(self._ignore):
            self._ignored.pop(index, None)
            self._ignored[index] = None
            if len(self._ignored) > _REMEMBERED:
                del self._ignored[next(iter(self._ignored))]
        elif new:  # numbers come again
            self._ignored.pop(index, None)


def _attribute(body: bytes, offset: int, wanted: int) -> bytes:
    """Return an attribute's value; empty if there is none."""
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if kind == wanted:
            return body[offset + _ATTRIBUTE.size : offset + length]
        offset += max(4, (length + 3) & ~3)
    return b""
