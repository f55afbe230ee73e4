# SPDX-License-Identifier: Apache-2.0
"""Parts that many objects have: labels, addresses, numbers. FieldError where one does not fit."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from ciliumpy.model.errors import FieldError, Path
from ciliumpy.model.fields import Fields, as_text
from ciliumpy.model.labels import check as check_labels

if TYPE_CHECKING:
    from collections.abc import Mapping


def labels_of(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    path = ("metadata", "labels")
    labels = texts_of(document["metadata"].get("labels"), path)
    check_labels(dict(labels), path)
    return labels


def texts_of(value: Any, path: Path) -> tuple[tuple[str, str], ...]:
    """A mapping of text to text, sorted."""
    if value is None:
        return ()
    Fields(value, path)
    return tuple(sorted((key, as_text(text, (*path, key))) for key, text in value.items()))


def number(fields: Fields, name: str) -> int:
    value = fields.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise FieldError(fields.at(name), f"must be a number, not {str(value)[:80]}")
    return value


def check_ip(text: str, path: Path, *, network: bool = False) -> None:
    try:
        ipaddress.ip_network(text) if network else ipaddress.ip_address(text)
    except ValueError:
        raise FieldError(path, f"{text[:80]!r} is no {'network' if network else 'address'}") from None


def by_family(values: list[str]) -> tuple[str, ...]:
    return tuple(sorted(values, key=lambda value: ":" in value))
