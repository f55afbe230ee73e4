# SPDX-License-Identifier: Apache-2.0
"""ICMP messages of a CiliumNetworkPolicy's rule: by number or name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.model import icmp
from ciliumpy.model.errors import FieldError
from ciliumpy.model.fields import Fields, meant, type_name
from ciliumpy.model.ports import PortRange, Protocol, whole

if TYPE_CHECKING:
    from ciliumpy.model.errors import Path

MOST_MESSAGES = 40


def decode_messages(items: list[tuple[Any, Path]]) -> tuple[PortRange, ...]:
    return tuple(found for value, at in items for found in _entry(Fields(value, at)))


def _entry(fields: Fields) -> list[PortRange]:
    entries = fields.items("fields") or []
    if len(entries) > MOST_MESSAGES:
        raise FieldError(fields.at("fields"), f"has {len(entries)} entries, at most {MOST_MESSAGES} are allowed")
    found = [_message(Fields(entry, where)) for entry, where in entries]
    fields.finish(dict.fromkeys(("family", "type"), "unknown field: write fields: [{family: ..., type: ...}]"))
    return found


def _message(fields: Fields) -> PortRange:
    family = fields.text("family") or "IPv4"
    if family not in ("IPv4", "IPv6"):
        raise FieldError(
            fields.at("family"), f"must be IPv4 or IPv6, not {family[:80]!r}{meant(family, ('IPv4', 'IPv6'))}"
        )
    protocol, names = (Protocol.ICMP, icmp.IPV4) if family == "IPv4" else (Protocol.ICMPV6, icmp.IPV6)
    if not fields.has("type"):
        raise fields.missing("type")
    number = _number(fields.get("type"), names, family, fields.at("type"))
    fields.finish({"code": "unknown field: rules are for types, all their codes"})
    # Type 0 is the "every port" of ports: it meets every message of the family.
    return whole(protocol) if number == 0 else PortRange(protocol, number, number)


def _number(value: Any, names: dict[str, int], family: str, path: Path) -> int:
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        if value not in names:
            raise FieldError(path, _not_a_name(value, names, family))
        return names[value]
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise FieldError(path, f"must be a message type, not {type_name(value)}")
    number = int(value[:4]) if isinstance(value, str) else value
    if not 0 <= number <= 255:
        border = "lowest is 0" if number < 0 else "highest is 255"
        raise FieldError(path, f"{str(value)[:80]} is not a message type: the {border}")
    return number


def _not_a_name(text: str, names: dict[str, int], family: str) -> str:
    other, is_other = (icmp.IPV6, "IPv6") if names is icmp.IPV4 else (icmp.IPV4, "IPv4")
    said = f"{text[:80]!r} is not a message of {family}"
    if text in other:
        return f"{said}, but of {is_other}: write family: {is_other}"
    close = meant(text, names)
    return said + (close or f": use a number or one of {', '.join(names)}")
