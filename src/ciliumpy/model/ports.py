# SPDX-License-Identifier: Apache-2.0
"""Protocols and port ranges of rules. For the two ICMPs a port is the message type."""

from __future__ import annotations

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
    if text.upper() not in _NAMES:
        raise ValueError(f"unknown protocol {text!r}: use TCP, UDP, SCTP, ICMP, ICMPv6 or ANY")
    return (_NAMES[text.upper()],)


_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*", re.IGNORECASE)


def is_port_name(text: str) -> bool:
    """A service name of RFC 6335: up to 15 letters, digits and single dashes, at least one letter."""
    return len(text) <= 15 and _PORT_NAME.fullmatch(text) is not None


def parse_port(text: str) -> int:
    """A port number written in C's way (010 is 8); ValueError says what is wrong."""
    if not re.fullmatch(r"[0-9]+", text):
        raise ValueError(f"{text!r} is neither a port number nor a port name")
    if len(text) > 1 and text.startswith("0"):
        if not re.fullmatch(r"[0-7]+", text):
            raise ValueError(f"{text!r} is not a number: a leading zero means base 8")
        number = int(text, 8)
    else:
        number = int(text[:12])
    if number > MAX_PORT:
        raise ValueError(f"{text} is not a port: the highest is {MAX_PORT}")
    return number
