# SPDX-License-Identifier: Apache-2.0
"""How full the maps are, and what to do before one is. A map that is full refuses rows: no policy opens by that."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from ciliumpy.bpf.names import CONNTRACK_MAPS, SETTINGS, UNANSWERED_MAPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

TIGHT = 0.8  # from here on `status` warns


class Sized(Protocol):
    @property
    def max_entries(self) -> int: ...


class Fill(NamedTuple):
    """A map as `status` shows it. `pressure` is entries / maxEntries; `setting` gives it more room, or is empty."""

    name: str
    entries: int
    maxEntries: int  # noqa: N815 - a key of the interface
    pressure: float
    setting: str


def fills(entries: Mapping[str, int], maps: Mapping[str, Sized]) -> list[Fill]:
    """Return how full each map is that something is known of, sorted by name."""
    return [
        Fill(name, rows, room, round(rows / room, 4), SETTINGS.get(name, ""))
        for name, rows in sorted(entries.items())
        for room in [maps[name].max_entries]
    ]


def warnings(found: Iterable[Fill]) -> Iterator[tuple[str, str]]:
    """Yield (what, message) for each map that will soon be full.

    Flows that nobody has answered push one another out all the time: of those nothing is said.
    """
    for one in found:
        if one.pressure >= TIGHT and one.name not in UNANSWERED_MAPS:
            then = "flows that rest longest are forgotten" if one.name in CONNTRACK_MAPS else "more is refused"
            more = f"; {one.setting} gives it more room, at the next start" if one.setting else ""
            used = f"{one.entries} of {one.maxEntries} rows"
            yield f"map {one.name}", f"{one.pressure:.0%} full ({used}): once it is, {then}{more}"


def selectors(used: int, most: int) -> Iterator[tuple[str, str]]:
    """Yield (what, message) if the node will soon have no bit for one more selector."""
    if used >= TIGHT * most:
        yield (
            "selectors",
            f"{used / most:.0%} used ({used} of {most}): once all are, policies that name more are refused",
        )
