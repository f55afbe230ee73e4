# SPDX-License-Identifier: Apache-2.0
"""Rows as the bytes of the kernel's structs. Pure; layouts come from the maps' own types (BTF), never from here."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ciliumpy.datapath.kernel import KernelMap
    from ciliumpy.tables.datapath import KernelEndpoint
    from ciliumpy.tables.enforcement import PolicySet, PortClass, PortRow
    from ciliumpy.tables.ipcache import IPCacheEntry

_V4_MAPPED = bytes(10) + b"\xff\xff"
NO_ADDRESS = bytes(16)

# enum endpoint_flags of bpf/c/layout.h
ENDPOINT_READY = 1
ENDPOINT_ENFORCE_INGRESS = 2
ENDPOINT_ENFORCE_EGRESS = 4
ENDPOINT_PROXY_ARP = 16
ENDPOINT_AUDIT = 32

LEVEL_EVERYBODY = 1
RANGE_FAMILY = {6: 1, 17: 2, 132: 4, 1: 8, 58: 16}  # protocol -> bit of policy_set.has_ranges


def address(text: str) -> bytes:
    """`struct addr`: 16 bytes in network order, IPv4 as ::ffff:a.b.c.d; empty text is all zero."""
    if not text:
        return NO_ADDRESS
    if ":" in text:
        return socket.inet_pton(socket.AF_INET6, text)
    return _V4_MAPPED + socket.inet_pton(socket.AF_INET, text)


def split_prefix(text: str) -> tuple[bytes, int]:
    """`10.0.0.0/8` -> (struct addr, 104): the length counts over all 16 bytes."""
    base, _, length = text.partition("/")
    return address(base), int(length) + (0 if ":" in base else 96)


def mac(text: str) -> bytes:
    """Six bytes; all zero for no text."""
    return bytes.fromhex(text.replace(":", "")) or bytes(6)


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def _new(dtype: np.dtype[Any] | None, map_: KernelMap) -> np.ndarray[Any, Any]:
    if dtype is None:
        raise TypeError(f"map {map_.name} has no type information")
    return np.zeros((), dtype=dtype)


def _put(target: np.ndarray[Any, Any], field: str, data: bytes) -> None:
    """Set a field of bytes: `struct addr` or an array of u8."""
    inner = target[field]
    part = inner["b"] if inner.dtype.names else inner
    part[...] = np.frombuffer(data, dtype=np.uint8)


def endpoint_value(map_: KernelMap, row: KernelEndpoint, *, ready: bool = True) -> bytes:
    value = _new(map_.value_dtype, map_)
    flags = ENDPOINT_READY if ready else 0
    flags |= ENDPOINT_ENFORCE_INGRESS if row.ingress_enforced else 0
    flags |= ENDPOINT_ENFORCE_EGRESS if row.egress_enforced else 0
    flags |= ENDPOINT_PROXY_ARP if row.chained else 0
    flags |= ENDPOINT_AUDIT if row.audit else 0
    value["ifindex"], value["generation"], value["identity"] = row.ifindex, row.generation, row.identity
    value["policy_set"], value["flags"], value["peer_ifindex"] = row.policy_set, flags, row.peer_ifindex
    _put(value, "mac", mac(row.mac))
    _put(value, "host_mac", mac(row.host_mac))
    _put(value, "ip4", address(row.ipv4))
    _put(value, "ip6", address(row.ipv6))
    return value.tobytes()


def local_target(map_: KernelMap, row: KernelEndpoint) -> bytes:
    value = _new(map_.value_dtype, map_)
    value["slot"], value["generation"] = row.slot, row.generation
    return value.tobytes()


def ipcache_prefix(map_: KernelMap, addr: bytes, length: int) -> bytes:
    key = _new(map_.key_dtype, map_)
    key["prefixlen"] = length
    _put(key, "addr", addr)
    return key.tobytes()


def ipcache_value(map_: KernelMap, row: IPCacheEntry) -> bytes:
    value = _new(map_.value_dtype, map_)
    value["identity"], value["flags"] = row.identity, row.flags
    _put(value, "tunnel", address(row.tunnel))
    return value.tobytes()


def set_value(map_: KernelMap, row: PolicySet) -> bytes:
    value = _new(map_.value_dtype, map_)
    for direction in (0, 1):
        value["default_class"][direction] = row.default_class[direction]
        exact = [p for p in row.ports if p.direction == direction and p.first == p.last]
        ranges = [p for p in row.ports if p.direction == direction and p.first != p.last]
        value["has_exact"][direction] = len(exact)
        bits = 0
        for port in ranges:
            bits |= RANGE_FAMILY[port.protocol]
        value["has_ranges"][direction] = bits
        value["denied_stat"][direction] = row.denied_stat[direction]
    return value.tobytes()


def port_key(map_: KernelMap, set_id: int, row: PortRow) -> bytes:
    """Key of an exact row; of a range, with port 0."""
    key = _new(map_.key_dtype, map_)
    key["set"], key["direction"], key["protocol"] = set_id, row.direction, row.protocol
    key["port"] = row.first if row.first == row.last else 0
    return key.tobytes()


def ranges_value(map_: KernelMap, rows: list[PortRow]) -> bytes:
    """Disjoint ranges of one direction and protocol. ValueError: more than the kernel's struct holds."""
    value = _new(map_.value_dtype, map_)
    room = len(value["range"])
    if len(rows) > room:
        raise ValueError(f"{len(rows)} port ranges in one direction and protocol, {room} fit")
    value["count"] = len(rows)
    for place, row in zip(value["range"], sorted(rows, key=lambda r: r.first), strict=False):
        place["first"], place["last"], place["class_id"] = row.first, row.last, row.class_id
    return value.tobytes()


def class_value(map_: KernelMap, row: PortClass) -> bytes:
    """Levels of a class. ValueError: more than the kernel's struct holds."""
    value = _new(map_.value_dtype, map_)
    room = len(value["level"])
    if len(row.levels) > room:
        raise ValueError(f"{len(row.levels)} levels of precedence on one port, {room} fit")
    for place, level in zip(value["level"], row.levels, strict=False):
        place["verdict"], place["proxy_port"], place["stat"] = level.verdict, level.proxy_port, level.stat
        place["flags"] = LEVEL_EVERYBODY if level.everybody else 0
        if level.mask:
            place["mask"][...] = np.frombuffer(fitted(level.mask, place["mask"].nbytes), dtype=place["mask"].dtype)
    return value.tobytes()


def vector_value(map_: KernelMap, words: bytes) -> bytes:
    """Bits of selectors as a map's vector. ValueError: there is one that it has no room for."""
    return fitted(words, _new(map_.value_dtype, map_).dtype.itemsize)


def fitted(mask: bytes, size: int) -> bytes:
    """Bring a mask to `size` bytes: rows do not know how wide the kernel's are. ValueError: it would lose a bit."""
    if any(mask[size:]):
        raise ValueError(f"a selector has a bit above the {size * 8} of the datapath")
    return mask[:size].ljust(size, b"\0")


def widened(narrow: KernelMap, wide: KernelMap, value: bytes) -> bytes:
    """A vector or class of one map as it is in the other: alike, but for zeros where there was no room."""
    source, result = _new(narrow.value_dtype, narrow), _new(wide.value_dtype, wide)
    _widen(np.frombuffer(value, dtype=source.dtype)[0], result)
    return result.tobytes()


def _widen(part: Any, into: Any) -> None:
    for name in part.dtype.names:
        source, target = part[name], into[name]
        if source.dtype.names is None:
            if target.ndim:
                target[: len(source)] = source
            else:
                into[name] = source
            continue
        for one, other in zip(source, target, strict=True):
            _widen(one, other)
