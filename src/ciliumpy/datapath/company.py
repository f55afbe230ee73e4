# SPDX-License-Identifier: Apache-2.0
"""Who else is on the hooks of our programs, and whether ours are still there.

What runs before ours decides first: a packet that it accepts or takes away is never ours to judge, one that it lets go
on (TCX_NEXT, TC_ACT_UNSPEC) is. Behind ours come only packets that `netdev` leaves to the stack.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.bpf import sys
from ciliumpy.bpf.links import attached
from ciliumpy.datapath.hooks import CLOSED, DIRECTIONS, program_name
from ciliumpy.net import filters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from ciliumpy.datapath.hooks import Kind
    from ciliumpy.state.jobs import Job

STEP_S = 0.02  # between devices: a look is two milliseconds of Python
PAUSE_S, PAUSE_PER_HOOK_S = 3.0, 0.2  # between rounds: at most one per cent of a CPU


class Foreign(NamedTuple):
    """A program that is not ours. `id` is the program's number for tcx, the priority for a clsact filter."""

    hook: str  # of ours that it is beside: pod, host, overlay, netdev, uplink
    device: str
    direction: str
    position: str  # before, after
    kind: str  # tcx, clsact
    id: int
    name: str


class Hook(NamedTuple):
    """One of our programs on a device, and its number."""

    hook: str
    device: str
    ifindex: int
    program: int


class Look(NamedTuple):
    """`faults`: our program is not there; or, on a pod's device, not the filter behind it that drops everything."""

    faults: tuple[str, ...]
    foreign: tuple[Foreign, ...]


def look(kind: Kind, at: Hook) -> Look:
    """Look at one hook. A device that is gone has neither ours nor others."""
    direction = DIRECTIONS[at.hook]
    links, found = attached(at.ifindex, direction), filters.filters(at.ifindex, direction)
    names = [one.name if one.ours else "" for one in found]
    if kind == "tcx":
        place = links.index(at.program) if at.program in links else -1
        in_place, before, after = place >= 0, links[: max(place, 0)], links[place + 1 :]
        front: list[filters.Filter] = []
        back = found
    else:
        ours = program_name(at.hook)
        place = names.index(ours) if ours in names else len(found)
        in_place, before, after = ours in names, links, []
        front, back = found[:place], found[place + 1 :]
    faults = [] if in_place else [f"program {at.hook} is not on {at.device}"]
    if at.hook == "pod" and CLOSED not in names:
        faults.append(f"{at.device} has lost the filter that closes it")

    def tcx(numbers: Sequence[int], position: str) -> Iterable[Foreign]:
        return (Foreign(at.hook, at.device, direction, position, "tcx", one, _name(one)) for one in numbers)

    def clsact(on: Sequence[filters.Filter], position: str) -> Iterable[Foreign]:
        return (
            Foreign(at.hook, at.device, direction, position, "clsact", one.priority, one.name or one.kind)
            for one in on
            if not one.ours
        )

    foreign = (*tcx(before, "before"), *clsact(front, "before"), *tcx(after, "after"), *clsact(back, "after"))
    return Look(tuple(faults), tuple(dict.fromkeys(foreign)))


def _name(program: int) -> str:
    """Return a program's name as the kernel has it; empty if it is gone meanwhile."""
    try:
        fd = sys.fd_by_id(sys.Command.PROG_GET_FD_BY_ID, program)
    except OSError:
        return ""
    try:
        return sys.program_info(fd).name
    finally:
        os.close(fd)


class Watch:
    """A job: goes round all hooks, keeps what it found in `foreign`, has ours put back where they are gone."""

    def __init__(
        self,
        kind: Kind,
        hooks: Callable[[], Sequence[Hook]],
        repair: Callable[[Hook], bool],
        attaching: AbstractContextManager[Any],
    ) -> None:
        self._kind, self._hooks, self._repair, self._attaching = kind, hooks, repair, attaching
        self._found: dict[tuple[str, str], tuple[Foreign, ...]] = {}
        self.repairs = 0

    @property
    def foreign(self) -> list[Foreign]:
        return [one for found in self._found.values() for one in found]

    async def run(self, job: Job) -> None:
        while True:
            hooks = self._hooks()
            for at in hooks:
                await asyncio.to_thread(self.visit, at)
                await asyncio.sleep(STEP_S)
            there = {(at.hook, at.device) for at in hooks}
            self._found = {key: found for key, found in self._found.items() if key in there}
            put_back = f", {self.repairs} put back" if self.repairs else ""
            job.ok(f"{len(hooks)} programs, {len(self.foreign)} of others beside them{put_back}")
            await asyncio.sleep(PAUSE_S + PAUSE_PER_HOOK_S * len(hooks))

    def visit(self, at: Hook) -> None:
        with self._attaching:
            if at not in self._hooks():  # gone, or swapped for another program
                return
            seen = look(self._kind, at)
            if seen.faults and self._repair(at):
                self.repairs += 1
                seen = look(self._kind, at)
            self._found[at.hook, at.device] = seen.foreign
