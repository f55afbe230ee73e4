# SPDX-License-Identifier: Apache-2.0
"""Programs on devices: by pinned tcx links, or by named filters on clsact where there is no tcx (before Linux 6.6).

Both replace a program atomically, outlive the agent, and come behind what others have put there. A link ends with its
pin; a filter ends when it is removed or its device goes. Who changes from one kind to the other is attached by both for
a moment: tcx comes first and decides.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal

from ciliumpy.bpf import probe
from ciliumpy.bpf.links import Direction, Link, attach_tcx
from ciliumpy.net import filters, links

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ciliumpy.bpf.programs import Program

Kind = Literal["tcx", "clsact"]
DIRECTIONS: dict[str, Direction] = {
    "pod": "ingress",
    "host": "egress",
    "overlay": "ingress",
    "netdev": "ingress",
    "uplink": "egress",
}
CLOSED = f"{filters.PREFIX}closed"


class Hooks:
    """`kind` is how programs are attached; what the other kind left behind goes when a program takes its place."""

    def __init__(self, kind: Kind, pins: Path) -> None:
        self.kind, self._pins = kind, pins
        self._filtered: set[int] = set()  # pods' devices on which an agent that used clsact has left its filter
        # Attaching waits for RCU; the kernel does one at a time anyway, and net/ must not see half-made devices.
        self._lock = threading.Lock()

    def attach(self, hook: str, program: Program, device: str, ifindex: int) -> None:
        """Attach, or swap what is attached."""
        direction, name = DIRECTIONS[hook], program_name(hook)
        with self._lock:
            if self.kind == "clsact":
                filters.put(ifindex, direction, program.fd, name)
                self._unlink(hook, device)
                return
            attach_tcx(program, ifindex, direction, self._pin(hook, device)).close()
            if hook != "pod" or ifindex in self._filtered:
                filters.remove(ifindex, direction, name)
                self._filtered.discard(ifindex)

    def detach(self, hook: str, device: str) -> None:
        """Take our program off; one that is not there is no error."""
        with self._lock:
            self._unlink(hook, device)
            if self.kind == "clsact" and (link := links.link(device)) is not None:
                filters.remove(link.ifindex, DIRECTIONS[hook], program_name(hook))

    def attached(self, hook: str) -> set[str]:
        """Return the devices that have our program."""
        found = {pin.name.removeprefix(f"{hook}-") for pin in self._pins.glob(f"{hook}-*")}
        if self.kind == "clsact":
            on = filters.everywhere(DIRECTIONS[hook])
            names = {link.ifindex: link.name for link in links.links()}
            found |= {names[at] for at, all_ in on.items() if at in names and _named(all_, program_name(hook))}
        return found

    def close_device(self, ifindex: int, program: Program) -> None:
        """Put the program that drops everything behind all others, for when ours is gone."""
        present = filters.put(ifindex, "ingress", program.fd, CLOSED, last=True)
        if self.kind == "tcx" and _named(present, program_name("pod")):
            self._filtered.add(ifindex)

    def _pin(self, hook: str, device: str) -> Path:
        return self._pins / f"{hook}-{device}"

    def _unlink(self, hook: str, device: str) -> None:
        pin = self._pin(hook, device)
        if pin.exists():
            with Link.open_pinned(pin) as link:
                link.detach()


def choose(wanted: Literal["auto", "tcx", "clsact"]) -> Kind:
    """Return the kind to use. `auto` is tcx where the kernel has it and lets us."""
    if wanted == "auto":
        return "tcx" if probe.has_tcx() else "clsact"
    return wanted


def program_name(hook: str) -> str:
    """Return the name of the filter of one of our programs."""
    return f"{filters.PREFIX}{hook}"


def _named(present: Iterable[filters.Filter], name: str) -> bool:
    return any(one.kind == "bpf" and one.name == name for one in present)
