# SPDX-License-Identifier: Apache-2.0
"""Protocols and port ranges of rules. For the two ICMPs a port is the message type."""

from __future__ import annotations

import difflib
import re
from enum import IntEnum

import msgspec


class Protocol(IntEnum):
    """IANA numbers."""

    ICMP = 1
    TCP = 6
    UDP = 17
    ICMPV6 = 58
    SCTP = 132

    def __str__(self) -> str:
        return "ICMPv6" if self is Protocol.ICMPV6 else self.name


# What a rule without a protocol, or with ANY, means.
WITH_PORTS = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
MAX_PORT = 65535
_NAMES = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP, "ICMP": Protocol.ICMP}
_NAMES |= {"ICMPV6": Protocol.ICMPV6}
_WITHOUT_PORTS = ("VRRP", "IGMP", "ESP", "AH", "GRE", "IPIP", "OSPF")


class PortRange(msgspec.Struct, frozen=True, order=True):
    """Ports `first` to `last`, both included, of one protocol. 0 to 65535 is the whole protocol."""

    protocol: int
    first: int
    last: int

    def covers(self, protocol: int, port: int) -> bool:
        return protocol == self.protocol and self.first <= port <= self.last


def whole(protocol: Protocol) -> PortRange:
    return PortRange(protocol, 0, MAX_PORT)


def parse_protocol(text: str) -> tuple[Protocol, ...]:
    """The protocols that a name stands for, whatever its case; ValueError for another name."""
    if text.upper() in ("", "ANY"):
        return WITH_PORTS
    if text.upper() not in _NAMES or not text.isascii():
        raise ValueError(_not_a_protocol(text))
    return (_NAMES[text.upper()],)


def _not_a_protocol(text: str) -> str:
    said = f"unknown protocol {text[:80]!r}"
    if text.isascii() and text.isdecimal():
        return f"{said}: protocols are named"
    if text.upper() in _WITHOUT_PORTS:
        return f"{said}: protocols without ports cannot be chosen in this version"
    close = difflib.get_close_matches(text[:80].upper(), [*_NAMES, "ANY"], n=1)
    named = {"ICMPV6": "ICMPv6"}.get(close[0], close[0]) if close else ""
    known = "use TCP, UDP, SCTP, ICMP, ICMPv6 or ANY"
    return f"{said}, did you mean {named}?" if named else f"{said}: {known}"


_LONGEST_NAME = 15
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*", re.IGNORECASE | re.ASCII)


def is_port_name(text: str) -> bool:
    """A service name of RFC 6335: up to 15 letters, digits and single dashes, at least one letter."""
    return len(text) <= _LONGEST_NAME and _PORT_NAME.fullmatch(text) is not None


def not_a_port(number: int) -> str:
    border = "lowest is 0" if number < 0 else f"highest is {MAX_PORT}"
    return f"{number} is not a port: the {border}"


def _not_a_name(text: str) -> str:
    if re.fullmatch(r"-[0-9]+", text):
        return ": the lowest is 0"
    if text.strip() != text:
        return ": it begins or ends with a space"
    if not re.search(r"[a-zA-Z]", text):
        return ""
    if len(text) > _LONGEST_NAME:
        return f": a name has at most {_LONGEST_NAME} characters"
    return ": a name has letters, digits and single dashes between them"


def parse_port(text: str) -> int:
    """A port number written in C's way (010 is 8), with or without _ between digits; ValueError says what is wrong."""
    if not re.fullmatch(r"[0-9]+(_[0-9]+)*", text):
        raise ValueError(f"{text[:80]!r} is neither a port number nor a port name{_not_a_name(text)}")
    text = text.replace("_", "")
    if len(text) > 1 and text.startswith("0"):
        if not re.fullmatch(r"[0-7]+", text):
            raise ValueError(f"{text[:80]!r} is not a number: a leading zero means base 8")
        number = int(text.lstrip("0")[:12] or "0", 8)
    else:
        number = int(text[:12])
    if number > MAX_PORT:
        raise ValueError(f"{text[:80]} is not a port: the highest is {MAX_PORT}")
    return number
