# SPDX-License-Identifier: Apache-2.0
"""Rows of any map as plain JSON values, by the map's own BTF, other projects' maps included.

A struct is an object with its members in C's order, those of unnamed unions side by side; an enum is its name; an array
of bytes is hexadecimal text (six of them a MAC address), `struct addr` and the kernel's in6_addr an IP address. BTF
does not tell byte orders: NETWORK_ORDER names our fields that are not in the machine's. What has no BTF is hexadecimal
text too. A per-CPU row has `values`, one a CPU.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

from ciliumpy.bpf import btf as kinds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from ciliumpy.bpf.btf import Btf
    from ciliumpy.bpf.maps import Map


NETWORK_ORDER = {
    "ct4_key": {"addr", "port"},
    "ct6_key": {"port"},
    "ct_rewrite": {"sport", "dport"},
}


def rows(of: Map) -> Iterator[dict[str, Any]]:
    """Each row: {"key": ..., "value": ...}, or {"key": ..., "values": [{"cpu": 0, "value": ...}, ...]}; by raw key."""
    decoder = Decoder(of.btf) if of.btf else None
    key = decoder.decode(of.info.btf_key_type_id, of.key_size) if decoder else _hex(of.key_size)
    value = decoder.decode(of.info.btf_value_type_id, of.value_size) if decoder else _hex(of.value_size)
    keys, values = of.items()
    raw_keys, raw_values = keys.tobytes(), values.tobytes()
    order = sorted(range(len(keys)), key=lambda at: raw_keys[at * of.key_size : (at + 1) * of.key_size])
    for at in order:
        row: dict[str, Any] = {"key": key(raw_keys, at * of.key_size)}
        if of.cpus:
            row["values"] = [
                {"cpu": cpu, "value": value(raw_values, (at * of.cpus + cpu) * of.value_size)} for cpu in range(of.cpus)
            ]
        else:
            row["value"] = value(raw_values, at * of.value_size)
        yield row


def address(data: bytes) -> str:
    """16 bytes as an IP address: ::ffff:a.b.c.d is a.b.c.d."""
    if data[:12] == b"\0" * 10 + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, data[12:])
    return socket.inet_ntop(socket.AF_INET6, data)


class Decoder:
    """Makes decoding functions for types: (bytes, offset) -> JSON value. Each type is worked out once."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._made: dict[int, Callable[[bytes, int], Any]] = {}

    def decode(self, type_id: int, size: int) -> Callable[[bytes, int], Any]:
        """Of a key or value; one without a type, or whose type has another size, is hexadecimal."""
        if not type_id or self._btf.size(type_id) != size:
            return _hex(size)
        return self._of(type_id)

    def _of(self, type_id: int) -> Callable[[bytes, int], Any]:
        type_id = self._btf.strip(type_id)
        if type_id not in self._made:
            self._made[type_id] = self._make(type_id)
        return self._made[type_id]

    def _make(self, type_id: int) -> Callable[[bytes, int], Any]:
        one = self._btf.types[type_id]
        size = self._btf.size(type_id)
        if one.kind in {kinds.STRUCT, kinds.UNION, kinds.DATASEC}:
            if size == 16 and one.name in {"addr", "in6_addr"}:
                return lambda data, at: address(data[at : at + 16])
            return self._record(type_id)
        if one.kind == kinds.ARRAY:
            return self._array(one)
        if one.kind in {kinds.ENUM, kinds.ENUM64}:
            number, names = _number(size, signed=one.signed), {value: name for name, value in one.values}
            return lambda data, at: names.get(number(data, at), number(data, at))
        if one.kind == kinds.INT and one.boolean:
            return lambda data, at: data[at] != 0
        if one.kind in {kinds.INT, kinds.PTR} and size in {1, 2, 4, 8}:
            return _number(size, signed=one.signed)
        if one.kind == kinds.INT:
            return lambda data, at: int.from_bytes(data[at : at + size], "little", signed=one.signed)
        if one.kind == kinds.FLOAT and size in {4, 8}:
            unpack = struct.Struct("=f" if size == 4 else "=d").unpack_from
            return lambda data, at: unpack(data, at)[0]
        return _hex(size)

    def _record(self, type_id: int) -> Callable[[bytes, int], Any]:
        own = NETWORK_ORDER.get(self._btf.types[type_id].name, set())
        members = [(member.name, member.offset, self._member(own, member)) for member in self._btf.members(type_id)]
        return lambda data, at: {name: decode(data, at + offset) for name, offset, decode in members}

    def _member(self, network_order: Collection[str], member: kinds.Member) -> Callable[[bytes, int], Any]:
        if member.bits:
            return _bits(member)
        if member.name not in network_order:
            return self._of(member.type)
        one = self._btf.types[self._btf.strip(member.type)]
        if one.kind != kinds.ARRAY:
            return _network(self._btf.size(member.type))
        each, size = _network(self._btf.size(one.target)), self._btf.size(one.target)
        return lambda data, at: [each(data, at + number * size) for number in range(one.length)]

    def _array(self, one: kinds.Type) -> Callable[[bytes, int], Any]:
        element, count = self._btf.types[self._btf.strip(one.target)], one.length
        if self._btf.is_char(one.target):
            return lambda data, at: data[at : at + count].split(b"\0", 1)[0].decode(errors="replace")
        if element.kind == kinds.INT and element.size == 1 and not element.signed:
            if count == 6:
                return lambda data, at: data[at : at + 6].hex(":")
            return _hex(count)
        decode, size = self._of(one.target), self._btf.size(one.target)
        return lambda data, at: [decode(data, at + number * size) for number in range(count)]


def _number(size: int, *, signed: bool) -> Callable[[bytes, int], int]:
    code = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
    unpack = struct.Struct("=" + (code.lower() if signed else code)).unpack_from
    return lambda data, at: int(unpack(data, at)[0])


def _network(size: int) -> Callable[[bytes, int], Any]:
    """Of a field in network order: four bytes are an address, two a port."""
    if size == 4:
        return lambda data, at: socket.inet_ntop(socket.AF_INET, data[at : at + 4])
    return lambda data, at: int.from_bytes(data[at : at + size], "big")


def _bits(member: kinds.Member) -> Callable[[bytes, int], int]:
    mask, shift, width = (1 << member.bits) - 1, member.shift, (member.shift + member.bits + 7) // 8
    return lambda data, at: int.from_bytes(data[at : at + width], "little") >> shift & mask


def _hex(size: int) -> Callable[[bytes, int], str]:
    return lambda data, at: data[at : at + size].hex()
