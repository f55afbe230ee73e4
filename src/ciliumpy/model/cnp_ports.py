# SPDX-License-Identifier: Apache-2.0
"""Ports of a CiliumNetworkPolicy's rule: toPorts and icmps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.model import icmp
from ciliumpy.model.cnp_l7 import check_l7
from ciliumpy.model.errors import FieldError, Path
from ciliumpy.model.fields import Fields, type_name
from ciliumpy.model.ports import MAX_PORT, PortRange, Protocol, is_port_name, parse_port, parse_protocol, whole

if TYPE_CHECKING:
    from ciliumpy.model.cnp_scope import Scope

MAX_PORTS = 40


def decode_ports(rule: Fields, scope: Scope) -> tuple[PortRange, ...] | None:
    """What the rule's ports cover; None where it names none, so that every protocol is meant."""
    to_ports, icmps = rule.items("toPorts"), rule.items("icmps")
    if to_ports and icmps:
        raise FieldError(rule.at("icmps"), "cannot stand beside toPorts: write two rules")
    if icmps:
        return tuple(found for entry, where in icmps for found in _icmp_rule(Fields(entry, where)))
    if to_ports:
        return tuple(found for entry, where in to_ports for found in _port_rule(Fields(entry, where), scope))
    return None


def _port_rule(fields: Fields, scope: Scope) -> list[PortRange]:
    entries = fields.items("ports") or []
    if len(entries) > MAX_PORTS:
        raise FieldError(fields.at("ports"), f"has {len(entries)} entries, at most {MAX_PORTS} are allowed")
    ports = [_Port(Fields(entry, where)) for entry, where in entries]
    unsupported = check_l7(fields, scope, [(port.protocols, port.name, port.number, port.last) for port in ports])
    fields.finish()
    if unsupported is not None:
        scope.notice(unsupported, "rules for proxies are not supported by this version: grants nothing")
        return []
    return [found for port in ports for found in port.ranges(scope)]


class _Port:
    """One entry of `ports`: a number or a name."""

    def __init__(self, fields: Fields) -> None:
        self.path = fields.at("port")
        text = _port_text(fields)
        self.name = text if is_port_name(text) else ""
        try:
            self.number = 0 if self.name else parse_port(text)
            self.protocols = parse_protocol(fields.text("protocol") or "")
        except ValueError as error:
            at = "protocol" if "protocol" in str(error) else "port"
            raise FieldError(fields.at(at), str(error)) from None
        self.last = _end_port(fields)
        fields.finish()

    def ranges(self, scope: Scope) -> list[PortRange]:
        if self.name:
            wide = scope.unsupported(self.path, f"the port name {self.name!r}", instead="all ports of the protocol")
            return [whole(protocol) for protocol in self.protocols] if wide else []
        if self.number == 0:
            return [whole(protocol) for protocol in self.protocols]
        return [PortRange(protocol, self.number, max(self.number, self.last)) for protocol in self.protocols]


def _port_text(fields: Fields) -> str:
    value: Any = fields.get("port")
    if value is None or value == "":
        raise FieldError(fields.at("port"), "is missing")
    if isinstance(value, int) and not isinstance(value, bool):  # as YAML reads an unquoted number
        if not 0 <= value <= MAX_PORT:
            raise FieldError(fields.at("port"), f"{value} is not a port: the highest is {MAX_PORT}")
        return str(value)
    if not isinstance(value, str):
        raise FieldError(fields.at("port"), f"must be a port number or name, not {type_name(value)}")
    return value


def _end_port(fields: Fields) -> int:
    value = fields.get("endPort")
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise FieldError(fields.at("endPort"), f"must be a number, not {type_name(value)}")
    if not 0 <= value <= MAX_PORT:
        raise FieldError(fields.at("endPort"), f"{value} is not a port: the highest is {MAX_PORT}")
    return value


def _icmp_rule(fields: Fields) -> list[PortRange]:
    entries = fields.items("fields") or []
    if len(entries) > MAX_PORTS:
        raise FieldError(fields.at("fields"), f"has {len(entries)} entries, at most {MAX_PORTS} are allowed")
    found = [_icmp_field(Fields(entry, where)) for entry, where in entries]
    fields.finish()
    return found


def _icmp_field(fields: Fields) -> PortRange:
    family = fields.text("family") or "IPv4"
    if family not in ("IPv4", "IPv6"):
        raise FieldError(fields.at("family"), f"must be IPv4 or IPv6, not {family!r}")
    protocol, names = (Protocol.ICMP, icmp.IPV4) if family == "IPv4" else (Protocol.ICMPV6, icmp.IPV6)
    number = _icmp_type(fields.get("type"), names, family, fields.at("type"))
    fields.finish()
    # Type 0 is the "every port" of ports: it meets every message of the family.
    return whole(protocol) if number == 0 else PortRange(protocol, number, number)


def _icmp_type(value: Any, names: dict[str, int], family: str, path: Path) -> int:
    if value is None:
        raise FieldError(path, "is missing")
    if isinstance(value, str) and not value.isdecimal():
        if value not in names:
            raise FieldError(path, f"{value!r} is not a message of {family}: use a number or one of {', '.join(names)}")
        return names[value]
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise FieldError(path, f"must be a message type, not {type_name(value)}")
    number = int(value[:4]) if isinstance(value, str) else value
    if not 0 <= number <= 255:
        raise FieldError(path, f"{value} is not a message type: the highest is 255")
    return number
