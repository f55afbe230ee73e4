# SPDX-License-Identifier: Apache-2.0
"""BPF filters (direct action) on a device's clsact hooks, known as ours by their names.

Others' filters are never touched: ours come behind those that are there, at a priority that nobody uses. A filter that
is there already gets its new program by one replacement, which each packet sees done or not done.
"""

from __future__ import annotations

import errno
from socket import htons, ntohs
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.net.netlink import attribute, conversation

if TYPE_CHECKING:
    from collections.abc import Sequence

Direction = Literal["ingress", "egress"]

PREFIX = "ciliumpy-"
LAST = 0xFFFF  # the priority of what is behind everything: lower numbers run first
_USUAL = 50_000  # above those that `tc` gives when it is told none: it counts down from 49,152
_PARENT = {"ingress": 0xFFFF_FFF2, "egress": 0xFFFF_FFF3}  # TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS | _EGRESS)
_ETH_P_ALL = 3


class Filter(NamedTuple):
    """A filter as the kernel shows it, in the order in which packets meet them. `name` is empty for other kinds."""

    priority: int
    handle: int
    protocol: int  # an EtherType; 3 is all
    kind: str  # bpf, flower, u32, matchall, ...
    name: str

    @property
    def ours(self) -> bool:
        return self.kind == "bpf" and self.name.startswith(PREFIX)


def put(ifindex: int, direction: Direction, program_fd: int, name: str, *, last: bool = False) -> list[Filter]:
    """Put a program on the hook as the filter of that name, in the place of an earlier one; return what was there.

    A new one comes behind those of others, and `last` behind all that ever come. CiliumpyError: no priority is left.
    """
    with conversation(f"cannot add the filter {name} to device {ifindex}") as route:
        present = [] if _make_hook(route, ifindex) else _dump(route, ifindex, direction)
        own = [one for one in present if one.kind == "bpf" and one.name == name]
        place = own[0] if own else Filter(_free(present, last=last), 1, _ETH_P_ALL, "bpf", name)
        _ask(route, "replace-filter" if own else "add-filter", ifindex, direction, place, fd=program_fd)
        for more in own[1:]:
            _ask(route, "del-filter", ifindex, direction, more)
        return present


def remove(ifindex: int, direction: Direction, name: str) -> bool:
    """Take our filter of that name off; False if it is not there. The hook itself stays: it may be another's."""
    with conversation(f"cannot remove the filter {name} of device {ifindex}") as route:
        own = [one for one in _dump(route, ifindex, direction) if one.kind == "bpf" and one.name == name]
        for one in own:
            _ask(route, "del-filter", ifindex, direction, one)
        return bool(own)


def filters(ifindex: int, direction: Direction) -> list[Filter]:
    """Return all filters of the hook; none if the device has no such hook or is gone."""
    with conversation(f"cannot list the filters of device {ifindex}") as route:
        return _dump(route, ifindex, direction)


def everywhere(direction: Direction) -> dict[int, list[Filter]]:
    """Return the filters of all devices that have such hooks, by ifindex."""
    with conversation("cannot list filters") as route:
        hooked = {one["index"] for one in route.get_qdiscs() if attribute(one, "TCA_KIND") in {"clsact", "ingress"}}
        return {ifindex: _dump(route, ifindex, direction) for ifindex in sorted(hooked)}


def _free(present: Sequence[Filter], *, last: bool) -> int:
    taken = {one.priority for one in present}
    priority = LAST if last else max([_USUAL, *(one + 1 for one in taken if one < LAST)])
    if priority in taken or (priority == LAST and not last):
        raise CiliumpyError(
            f"no priority is left behind the filters that are there: {', '.join(map(str, sorted(taken)))}",
            "give the last of them a smaller `pref`; see `tc filter show dev DEVICE ingress`",
        )
    return priority


def _make_hook(route: Any, ifindex: int) -> bool:
    """Give the device its clsact hooks; False if it has them, or an ingress hook from another, which will do."""
    try:
        route.tc("add", "clsact", ifindex)
    except Exception as error:
        if getattr(error, "code", 0) != errno.EEXIST:
            raise
        return False
    return True


def _ask(route: Any, command: str, ifindex: int, direction: Direction, one: Filter, **more: int) -> None:
    add = {"name": one.name, "direct_action": True, **more} if more else {}
    info = htons(one.protocol) | one.priority << 16
    route.tc(command, "bpf", ifindex, handle=one.handle, parent=_PARENT[direction], info=info, **add)


def _dump(route: Any, ifindex: int, direction: Direction) -> list[Filter]:
    found = [_filter(message) for message in route.get_filters(index=ifindex, parent=_PARENT[direction])]
    return sorted(one for one in found if one.handle)  # a priority without a filter comes too, with handle 0


def _filter(message: Any) -> Filter:
    options, kind = attribute(message, "TCA_OPTIONS"), attribute(message, "TCA_KIND") or ""
    name = attribute(options, "TCA_BPF_NAME") if kind == "bpf" and options else None
    return Filter(message["info"] >> 16, message["handle"], ntohs(message["info"] & 0xFFFF), kind, name or "")
