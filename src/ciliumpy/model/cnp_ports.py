# SPDX-License-Identifier: Apache-2.0
"""Ports of a CiliumNetworkPolicy's rule: toPorts and icmps, and who of them is for a proxy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.model.cnp_icmp import decode_messages
from ciliumpy.model.cnp_l7 import decode_proxy
from ciliumpy.model.errors import FieldError, Path
from ciliumpy.model.fields import Fields, type_name
from ciliumpy.model.ports import (
    MAX_PORT,
    PortRange,
    Protocol,
    is_port_name,
    not_a_port,
    parse_port,
    parse_protocol,
    whole,
)
from ciliumpy.model.rule import NamedPort, Proxy

if TYPE_CHECKING:
    from ciliumpy.model.cnp_scope import Scope

MOST_PORTS = 40
_RANGE = re.compile(r"\s*(\d{1,5})\s*[-:]\s*(\d{1,5})\s*", re.ASCII)
_DENY = "unknown field: it cannot stand in a deny rule, which is not for proxies"
_DENY_HINTS = dict.fromkeys(("rules", "listener", "serverNames", "terminatingTLS", "originatingTLS"), _DENY)
_ENTRY_HINTS = {
    "port": "unknown field, did you mean ports? Write ports: [{port: ...}]",
    "protocol": "unknown field: it stands in an entry of ports",
    "endPort": "unknown field: it stands in an entry of ports",
    "sni": "unknown field, did you mean serverNames?",
    "http": "unknown field: write rules: {http: ...}",
    "dns": "unknown field: write rules: {dns: ...}",
}


class Part(NamedTuple):
    """A part of a rule's ports with one fate; `path` is the rule's own, or that of an entry of toPorts."""

    path: Path
    ports: tuple[PortRange | NamedPort, ...] | None
    proxy: Proxy | None = None


def decode_ports(rule: Fields, scope: Scope) -> list[Part]:
    """What the rule's ports cover: one part for all that needs no proxy, one for each entry that does."""
    to_ports, icmps = rule.items("toPorts"), rule.items("icmps")
    if icmps and not scope.options.icmp_rules:
        raise FieldError(rule.at("icmps"), "rules for ICMP are off: set policy.icmpRules")
    if to_ports and icmps:
        raise FieldError(rule.at("icmps"), "cannot stand beside toPorts: write two rules, one for each")
    if icmps:
        return [Part(rule.path, decode_messages(icmps))]
    if not to_ports:
        return [Part(rule.path, None)]
    entries = [_entry(Fields(value, at), scope) for value, at in to_ports]
    plain = [entry for entry in entries if entry.proxy is None]
    proxied = [entry for entry in entries if entry.proxy is not None]
    if plain:
        ports = (port for entry in plain for port in entry.ports or ())
        return [Part(rule.path, tuple(dict.fromkeys(ports))), *proxied]
    return proxied


def _entry(fields: Fields, scope: Scope) -> Part:
    items = fields.items("ports") or []
    if len(items) > MOST_PORTS:
        raise FieldError(
            fields.at("ports"),
            f"has {len(items)} entries, at most {MOST_PORTS} are allowed: write another toPorts entry",
        )
    ports = [Port(Fields(value, at)) for value, at in items]
    proxy = None if scope.deny else decode_proxy(fields, scope, ports)
    fields.finish(_ENTRY_HINTS | (_DENY_HINTS if scope.deny else {}))
    return Part(fields.path, tuple(dict.fromkeys(found for port in ports for found in port.covers())), proxy)


class Port:
    """One entry of `ports`: a number or a name."""

    def __init__(self, fields: Fields) -> None:
        self.path = fields.path
        text = _port_text(fields)
        self.name = text.lower() if is_port_name(text) else ""
        try:
            self.number = 0 if self.name else parse_port(text)
        except ValueError as error:
            raise FieldError(fields.at("port"), _hint(text) or str(error)) from None
        try:
            self.protocols = parse_protocol(fields.text("protocol") or "")
        except ValueError as error:
            raise FieldError(fields.at("protocol"), str(error)) from None
        self.last = _end_port(fields)
        fields.finish({"name": "unknown field: a port's name stands in port"})

    @property
    def only_tcp(self) -> bool:
        return self.protocols == (Protocol.TCP,)

    @property
    def every(self) -> bool:
        """Whether port 0 is written, which is all of them."""
        return not self.name and self.number == 0

    @property
    def is_range(self) -> bool:
        return not self.name and self.last > self.number

    def covers(self) -> list[PortRange | NamedPort]:
        if self.name:
            return [NamedPort(protocol, self.name) for protocol in self.protocols]
        if self.every:
            return [whole(protocol) for protocol in self.protocols]
        return [PortRange(protocol, self.number, max(self.number, self.last)) for protocol in self.protocols]


def _hint(text: str) -> str:
    if match := _RANGE.fullmatch(text):
        return f'{text!r} is not a port: a range is written port: "{match[1]}", endPort: {match[2]}'
    if "," in text:
        return f"{text[:80]!r} is not a port: write an entry of ports for each"
    if re.fullmatch(r"\d+/\w+|\w+/\d+", text, re.ASCII):
        return f"{text[:80]!r} is not a port: the protocol stands in protocol"
    return ""


def _port_text(fields: Fields) -> str:
    value: Any = fields.get("port")
    if value is None or value == "":
        hint = ': "0" means all ports' if fields.has("protocol") or fields.has("endPort") else ""
        raise fields.missing("port", f"is missing{hint}")
    if isinstance(value, int) and not isinstance(value, bool):  # as YAML reads an unquoted number
        if not 0 <= value <= MAX_PORT:
            raise FieldError(fields.at("port"), not_a_port(value))
        return str(value)
    if not isinstance(value, str):
        raise FieldError(fields.at("port"), f"must be a port number or name, not {type_name(value)}")
    return value


def _end_port(fields: Fields) -> int:
    value = fields.get("endPort")
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        hint = ": write it without quotes" if isinstance(value, str) and value.isdecimal() else ""
        raise FieldError(fields.at("endPort"), f"must be a whole number, not {type_name(value)}{hint}")
    if not 0 <= value <= MAX_PORT:
        raise FieldError(fields.at("endPort"), not_a_port(value))
    return value
