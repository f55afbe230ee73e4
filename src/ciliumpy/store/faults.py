# SPDX-License-Identifier: Apache-2.0
"""PURE: everything that is wrong with an object, where decoding it stops at the first fault.

What is found wrong is taken out of a copy, with the entry of a list that it stands in, and the rest is decoded again.
What may be wrong only because something was taken out is not told: faults of what held it, and of what stood beside it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from ciliumpy.model.errors import FieldError, Path

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 50  # faults of one object
_UNKNOWN = "unknown field"


def faults(decode: Callable[[dict[str, Any]], object], document: dict[str, Any]) -> list[FieldError]:
    """Return the faults of an object in the order in which they are found; none if `decode` takes it."""
    try:
        decode(document)
    except FieldError as first:
        last = first
    else:
        return []
    found, rest = [last], _Rest(copy.deepcopy(document))
    while len(found) < MOST and rest.remove(last):
        try:
            decode(rest.value)
        except FieldError as error:
            last, path = error, rest.original(error.path)
            if not rest.explains(path, error.message):
                found.append(FieldError(path, error.message))
        else:
            break
    return found


class _Rest:
    """What is left of a document, and where what is left stood."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.value = value
        self._at: dict[int, list[int]] = {}  # id of a list -> where its entries stood; lists live as long as `value`
        self._removed: set[Path] = set()
        self._poorer: set[Path] = set()  # mappings that lost a field which may be missed

    def original(self, path: Path) -> Path:
        """Return where a field stood in the document as it was."""
        here: Any = self.value
        steps: list[str | int] = []
        for step in path:
            if isinstance(here, list) and isinstance(step, int):
                known = self._at.get(id(here))
                steps.append(known[step] if known and step < len(known) else step)
                here = here[step] if step < len(here) else None
            else:
                steps.append(step)
                here = here.get(step) if isinstance(here, dict) else None
        return tuple(steps)

    def explains(self, path: Path, message: str) -> bool:
        """Whether a fault there may come from what was taken out: there, below it, or beside it."""
        if any(removed[: len(path)] == path for removed in self._removed):
            return True
        return path[:-1] in self._poorer and not message.startswith(_UNKNOWN)

    def remove(self, error: FieldError) -> bool:
        """Take out what is wrong; whether there is something left to look at."""
        path = error.path
        if not error.message.startswith(_UNKNOWN):
            path = self._entry(path)
        while path:
            holder = self._find(path[:-1])
            step = path[-1]
            self._removed.add(self.original(path))
            if isinstance(holder, dict) and step in holder:
                del holder[step]
                if not error.message.startswith(_UNKNOWN):
                    self._poorer.add(self.original(path[:-1]))
                return True
            if isinstance(holder, list) and isinstance(step, int) and step < len(holder):
                at = self._at.setdefault(id(holder), list(range(len(holder))))
                del holder[step], at[step]
                if holder:
                    return True
                # An empty list says something else than a shorter one: the field goes.
            path = path[:-1]  # it is not there: missing
        return False

    def _entry(self, path: Path) -> Path:
        """The innermost entry of a list in which a field stands; the field itself where it stands in none."""
        for end in range(len(path), 0, -1):
            if isinstance(path[end - 1], int) and isinstance(self._find(path[: end - 1]), list):
                return path[:end]
        return path

    def _find(self, path: Path) -> Any:
        here: Any = self.value
        for step in path:
            if isinstance(here, dict):
                here = here.get(step)
            elif isinstance(here, list) and isinstance(step, int) and step < len(here):
                here = here[step]
            else:
                return None
        return here
