# SPDX-License-Identifier: Apache-2.0
"""Numeric identities: the reserved ones, where others are allocated, and what of them is on the wire.

An identity has 24 bits on the wire. Its upper byte (`scope`) is 0 for cluster-wide ones; others never leave the node.
"""

from __future__ import annotations

from enum import IntEnum


class Reserved(IntEnum):
    UNKNOWN = 0
    HOST = 1
    WORLD = 2
    UNMANAGED = 3
    HEALTH = 4
    INIT = 5
    REMOTE_NODE = 6
    KUBE_APISERVER = 7
    INGRESS = 8
    WORLD_IPV4 = 9
    WORLD_IPV6 = 10

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", "-")


def parse_identity(text: str) -> int:
    """Return the number that is meant by a number or a reserved name; ValueError if none is."""
    for reserved in Reserved:
        if text.removeprefix("reserved:") == reserved.label:
            return int(reserved)
    if not (text.isascii() and text.isdecimal()) or len(text) > 10 or int(text) >= 1 << 32:
        raise ValueError(f"{text!r} is no identity")
    return int(text)


FIRST_FIXED, LAST_FIXED = 128, 255  # given by the user, in identity.fixed
FIRST_ALLOCATED = 256
LAST_ALLOCATED = 65535
SCOPE_GLOBAL, SCOPE_LOCAL, SCOPE_REMOTE_NODE = 0x00, 0x01, 0x02


def reserved_labels(number: Reserved) -> tuple[str, ...]:
    """Security labels of a reserved identity; an API server's node is a remote node too."""
    labels = [f"reserved:{number.label}"]
    if number is Reserved.KUBE_APISERVER:
        labels.append(f"reserved:{Reserved.REMOTE_NODE.label}")
    return tuple(sorted(labels))


def reserved_identities(*, ipv4: bool = True, ipv6: bool = True) -> dict[int, tuple[str, ...]]:
    """Number and labels of the reserved identities of a node.

    With both families on, outside addresses are world-ipv4 and world-ipv6; world stands for both on the wire only. With
    one family, there is only world.
    """
    worlds = {Reserved.WORLD_IPV4, Reserved.WORLD_IPV6}
    absent = {Reserved.UNKNOWN} | (set() if ipv4 and ipv6 else worlds)
    return {int(number): reserved_labels(number) for number in Reserved if number not in absent}


def world(*, ipv6_address: bool, ipv4: bool = True, ipv6: bool = True) -> Reserved:
    """The identity of an outside address that nothing else names."""
    if not (ipv4 and ipv6):
        return Reserved.WORLD
    return Reserved.WORLD_IPV6 if ipv6_address else Reserved.WORLD_IPV4


def scope(identity: int) -> int:
    return identity >> 24


def is_reserved(identity: int) -> bool:
    return 0 < identity < FIRST_ALLOCATED


def to_wire(identity: int) -> int:
    """What goes into the tunnel header: a node is a remote node to others, and each world just the world.

    Numbers that mean something on one node only never leave it.
    """
    if identity == Reserved.HOST or scope(identity) == SCOPE_REMOTE_NODE:
        return Reserved.REMOTE_NODE
    if identity in (Reserved.WORLD_IPV4, Reserved.WORLD_IPV6) or scope(identity) >= SCOPE_LOCAL:
        return Reserved.WORLD
    return identity


def name(identity: int, labels: tuple[str, ...] = ()) -> str:
    """Short text: the reserved name, else the labels, else the number."""
    if is_reserved(identity) and identity <= max(Reserved):
        return f"reserved:{Reserved(identity).label}"
    return ",".join(labels) or str(identity)
