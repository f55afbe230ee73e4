# SPDX-License-Identifier: Apache-2.0
"""A map's row in one line: `name=value` parts, nested ones in braces. What is zero says nothing and is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ZEROS = 3  # as many at the end of a list become `…`

# Members of unions of ct_half, and what of `source` (enum hook) and `target` (enum ct_target) they are meant by.
MEANT_BY = {
    "from_pod": ("source", 1),
    "from_tunnel": ("source", 2),
    "from_stack": ("source", 3),
    "to_pod": ("target", 1),
    "to_tunnel": ("target", 2),
    "to_route": ("target", 4),
}
TRANSLATED = {"half": False, "only": True, "rewrite": True}  # of the union of ct_row


def nothing(value: Any) -> bool:
    """Whether a plain value is what zero bytes decode to; the number of a CPU does not count."""
    if isinstance(value, dict):
        return all(nothing(each) for name, each in value.items() if name != "cpu")
    if isinstance(value, list):
        return all(nothing(each) for each in value)
    return not value or (isinstance(value, str) and not value.strip("0:."))


def key_text(value: Any) -> str:
    """Return a key, whole."""
    return _record(value) if isinstance(value, dict) else _braced(value)


def value_text(value: Any) -> str:
    """Return a value without its zeros; one that is all zero is 0."""
    if nothing(value):
        return "0"
    told = _told(value)
    return _record(told) if isinstance(told, dict) else _braced(told)


def _told(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: each for name, each in value.items() if not nothing(each) and _is_meant(name, value)}
        return {name: _told(each) for name, each in kept.items()}
    if isinstance(value, list):
        end = len(value)
        while end and nothing(value[end - 1]):
            end -= 1
        rest = ["…"] if len(value) - end >= ZEROS else value[end:]
        return [_told(each) for each in (*value[:end], *rest)]
    return value


def _is_meant(name: str, record: Mapping[str, Any]) -> bool:
    """Whether a member of a union is the one that the record around it speaks of."""
    if name in MEANT_BY and MEANT_BY[name][0] in record:
        field, number = MEANT_BY[name]
        return bool(record[field] == number)
    if name in TRANSLATED and TRANSLATED.keys() <= record.keys():
        return TRANSLATED[name] == bool(record["service_id"])
    return True


def _record(value: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_braced(each)}" for name, each in value.items())


def _braced(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + _record(value) + "}"
    if isinstance(value, list):
        return "[" + " ".join(_braced(each) for each in value) + "]"
    return str(value) if value != "" else '""'
