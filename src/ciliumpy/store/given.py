# SPDX-License-Identifier: Apache-2.0
"""PURE: the objects that a user gives, by file and line, not judged but for whether they can be read and named."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.model.documents import GIVEN, Document, DocumentError, parse
from ciliumpy.model.errors import FieldError
from ciliumpy.store.catalog import flat
from ciliumpy.store.kinds import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ciliumpy.store.check import Text
    from ciliumpy.store.interface import Key


class Object(NamedTuple):
    """An object, and where it stands."""

    key: Key
    document: Document
    file: str


class Given(NamedTuple):
    """The objects in their order, and every fault as `file:line: field: message`."""

    objects: list[Object]
    faults: list[str]


def given(texts: Iterable[Text]) -> Given:
    """Read all objects of all texts."""
    objects: list[Object] = []
    faults: list[str] = []
    seen: dict[Key, str] = {}
    for text in texts:
        if text.fault:
            faults.append(f"{text.name}: {text.fault}")
            continue
        try:
            documents = parse(text.data, GIVEN)
        except DocumentError as error:
            line = f":{error.line}" if error.line else ""
            faults.append(f"{text.name}{line}: {error.message}")
            continue
        for document in flat(tuple(documents)):
            try:
                key = key_of(document.value)
            except FieldError as error:
                line = f"{document.position(error.path)[0]}"
                faults.append(f"{text.name}:{line}: {error if error.path else error.message}")
                continue
            if key in seen:
                faults.append(f"{text.name}:{document.line}: {key} is in {seen[key]} already")
                continue
            seen[key] = f"{text.name}:{document.line}"
            objects.append(Object(key, document, text.name))
    return Given(objects, faults)
