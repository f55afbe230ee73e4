# SPDX-License-Identifier: Apache-2.0
"""tcx links: a program on a device's ingress or egress, pinned so that it outlives us, replaced atomically."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Literal, Self

from ciliumpy.bpf import sys
from ciliumpy.bpf.sys import AttachType
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from ciliumpy.bpf.programs import Program

Direction = Literal["ingress", "egress"]
_ATTACH = {"ingress": AttachType.TCX_INGRESS, "egress": AttachType.TCX_EGRESS}


class Link:
    """An open link; it owns `fd`. Without a pin it ends, and its program with it, when the last descriptor closes."""

    def __init__(self, fd: int, pin: Path | None = None) -> None:
        self.fd, self.pin = fd, pin

    @classmethod
    def open_pinned(cls, path: Path) -> Self:
        try:
            return cls(sys.obj_get(path), path)
        except OSError as error:
            raise CiliumpyError(f"cannot open link {path}: {os.strerror(error.errno or 0)}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def info(self) -> sys.LinkInfo:
        return sys.link_info(self.fd)

    @property
    def ifindex(self) -> int:
        """In the device's namespace; 0 once the device is gone."""
        return self.info.ifindex

    @property
    def program_id(self) -> int:
        return self.info.program_id

    @property
    def direction(self) -> Direction:
        return "egress" if self.info.attach_type == AttachType.TCX_EGRESS else "ingress"

    def update(self, program: Program) -> None:
        """Put another program in place: every packet sees the one or the other."""
        try:
            sys.link_update(self.fd, program.fd)
        except OSError as error:
            raise CiliumpyError(
                f"cannot put program {program.name} on link {self.pin or self.fd}: {os.strerror(error.errno or 0)}"
            ) from error

    def detach(self) -> None:
        """Take the program off the device now, whoever holds the link, and remove its pin. Idempotent."""
        try:
            sys.link_detach(self.fd)
        except OSError as error:
            if error.errno != errno.ENOLINK:
                raise CiliumpyError(f"cannot detach link {self.pin}: {os.strerror(error.errno or 0)}") from error
        if self.pin:
            self.pin.unlink(missing_ok=True)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def attached(ifindex: int, direction: Direction) -> list[int]:
    """Return the numbers of the programs on a tcx hook, first to last; none if device or kernel have no such hook."""
    try:
        return sys.program_query(ifindex, _ATTACH[direction])
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.ENODEV, errno.ENOENT}:
            return []
        raise


def attach_tcx(program: Program, ifindex: int, direction: Direction, pin: Path | None) -> Link:
    """Attach to a device of the calling thread's network namespace.

    It comes behind the programs that are there. A link pinned already at `pin` for the same device and direction is
    updated atomically; one for another device, or whose device is gone, is replaced. A new link is pinned, or not
    attached at all.
    """
    if pin is not None and pin.exists():
        link = Link.open_pinned(pin)
        if link.ifindex == ifindex and link.direction == direction:
            link.update(program)
            return link
        link.detach()
        link.close()
    try:
        link = Link(sys.link_create(program.fd, ifindex, _ATTACH[direction]), pin)
    except OSError as error:
        number = error.errno or 0
        hint = "tcx needs Linux 6.6 or newer: set network.attach to clsact or auto" if number == errno.EINVAL else None
        raise CiliumpyError(
            f"cannot attach program {program.name} to the {direction} of device {ifindex}: {os.strerror(number)}", hint
        ) from error
    if pin is not None:
        try:
            pin.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            sys.obj_pin(link.fd, pin)
        except OSError as error:
            link.close()
            raise CiliumpyError(f"cannot pin link {pin}: {os.strerror(error.errno or 0)}") from error
    return link
