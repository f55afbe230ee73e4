# SPDX-License-Identifier: Apache-2.0
"""Reading a mapping of a document field by field, so that every error names its field and no field goes unread."""

from __future__ import annotations

import difflib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ciliumpy.model.errors import FieldError, Path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NO_HINTS: Mapping[str, str] = MappingProxyType({})


class Fields:
    """One mapping of a document at `path`. A field that is null counts as absent, as in Kubernetes."""

    def __init__(self, value: Any, path: Path) -> None:
        if not isinstance(value, dict):
            raise FieldError(path, f"must be a mapping, not {type_name(value)}")
        for key in value:
            if not isinstance(key, str):
                raise FieldError(path, f"field names must be text, not {type_name(key)} {key!r}")
        self._value: dict[str, Any] = value
        self._known: set[str] = set()
        self.path = path

    def at(self, name: str) -> Path:
        return (*self.path, name)

    def get(self, name: str) -> Any:
        self._known.add(name)
        return self._value.get(name)

    def has(self, name: str) -> bool:
        return self.get(name) is not None

    def fields(self, name: str) -> Fields | None:
        value = self.get(name)
        return None if value is None else Fields(value, self.at(name))

    def items(self, name: str) -> list[tuple[Any, Path]] | None:
        """The entries of a list with their paths; None if the field is absent."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            hint = ": put a dash before its first entry" if isinstance(value, dict) else ""
            raise FieldError(self.at(name), f"must be a list, not {type_name(value)}{hint}")
        return [(entry, (*self.path, name, index)) for index, entry in enumerate(value)]

    def names(self) -> list[str]:
        """All fields that are there, for a mapping in which they are the user's own."""
        return list(self._value)

    def text(self, name: str) -> str | None:
        value = self.get(name)
        return None if value is None else as_text(value, self.at(name))

    def boolean(self, name: str) -> bool | None:
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            raise FieldError(self.at(name), f"must be true or false, not {type_name(value)}")
        return value

    def missing(self, name: str, message: str = "is missing") -> FieldError:
        """The error for a field that must be there; it is about another one where that is the same misspelt."""
        for other in self._value:
            if other not in self._known and (meant(other, (name,)) or (len(other) > 1 and name.startswith(other))):
                return FieldError(self.at(other), f"unknown field, did you mean {name}?")
        return FieldError(self.at(name), message)

    def ignore(self, *names: str) -> None:
        """These are known and have no effect here."""
        self._known.update(names)

    def finish(self, hints: Mapping[str, str] = NO_HINTS) -> None:
        """Refuse the first field that nobody asked for; `hints` are for names that are wrong for a known reason."""
        for name in self._value:
            if name not in self._known:
                raise FieldError(self.at(name), hints.get(name) or f"unknown field{meant(name, self._known)}")


def meant(name: str, known: Iterable[str], write: str = "{}") -> str:
    """What to put behind `unknown ...`: the known name that is nearest, if one is near."""
    folded = {each.lower(): each for each in sorted(known)}
    close = difflib.get_close_matches(name[:80].lower(), folded, n=1)
    return f", did you mean {write.format(folded[close[0]])}?" if close else ""


def as_text(value: Any, path: Path) -> str:
    if not isinstance(value, str):
        hint = "; put it in quotes" if isinstance(value, bool | int | float) else ""
        raise FieldError(path, f"must be text, not {type_name(value)}{hint}")
    return value


def type_name(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}
    return "empty" if value is None else names.get(type(value), type(value).__name__)
