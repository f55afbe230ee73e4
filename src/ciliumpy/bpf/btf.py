# SPDX-License-Identifier: Apache-2.0
"""BTF, the kernel's type information, read into numpy dtypes: the C structs stay the one home of every layout.

The format is the kernel's Documentation/bpf/btf.rst. A struct becomes a structured dtype with C's offsets and size;
members of unnamed structs and unions stand in their parent, as in C; a union's members overlap. Bit fields are left out
(their bytes are not). Pointers are u64. An array of `char` is a byte string, any other a sub-array.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.bpf import sys
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF = 1, 2, 3, 4, 5, 6, 7, 8
VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(9, 20)
_TRANSPARENT = frozenset({TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG, VAR})
_SIGNED, _CHAR, _BOOL = 1, 2, 4


class Member(NamedTuple):
    """Of a struct, union or data section. `offset` in bytes; a bit field has `bits` bits, `shift` bits behind it."""

    name: str
    type: int
    offset: int
    bits: int = 0
    shift: int = 0


class Type(NamedTuple):
    """`target` is the referred type (of an array: its element), `length` an array's, `size` in bytes."""

    kind: int
    name: str
    size: int = 0
    target: int = 0
    length: int = 0
    encoding: int = 0
    members: tuple[Member, ...] = ()
    values: tuple[tuple[str, int], ...] = ()

    @property
    def signed(self) -> bool:
        return bool(self.encoding & _SIGNED)

    @property
    def boolean(self) -> bool:
        return bool(self.encoding & _BOOL)


class Btf:
    """The types of one object. Ids are BTF's own: 0 is void."""

    def __init__(self, data: bytes) -> None:
        self.types = list(_parse(data))
        self._dtypes: dict[int, np.dtype[Any]] = {}

    @classmethod
    def from_object(cls, path: Path) -> Btf:
        """From the .BTF section of a compiled object. Offsets in its data sections are not final yet (libbpf's job)."""
        return cls(_elf_section(path, ".BTF"))

    @classmethod
    def from_kernel(cls, btf_id: int) -> Btf:
        return cls(sys.btf_data(btf_id))

    def strip(self, type_id: int) -> int:
        """Past typedefs, qualifiers and variables to the type itself."""
        while self.types[type_id].kind in _TRANSPARENT:
            type_id = self.types[type_id].target
        return type_id

    def find(self, name: str, kinds: tuple[int, ...] = (STRUCT, UNION, DATASEC, TYPEDEF, INT)) -> int:
        """The id of the type with this name."""
        for number, one in enumerate(self.types):
            if one.name == name and one.kind in kinds:
                return number
        raise CiliumpyError(
            f"the object's type information has no type {name!r}",
            hint="build the objects again: python -m ciliumpy.bpf.build",
        )

    def size(self, type_id: int) -> int:
        one = self.types[self.strip(type_id)]
        if one.kind == ARRAY:
            return one.length * self.size(one.target)
        return 8 if one.kind == PTR else one.size

    def is_char(self, type_id: int) -> bool:
        one = self.types[self.strip(type_id)]
        return one.kind == INT and one.size == 1 and (bool(one.encoding & _CHAR) or one.name == "char")

    def enum(self, name: str) -> dict[str, int]:
        """Names to numbers of an enum."""
        return dict(self.types[self.find(name, (ENUM, ENUM64))].values)

    def type_name(self, type_id: int) -> str:
        """A type as C writes it: `u64`, `struct addr[2]`, `enum hook`; what has no name is what it is."""
        one = self.types[type_id]
        if one.kind == ARRAY:
            return f"{self.type_name(one.target)}[{one.length}]"
        if one.kind == PTR:
            return f"{self.type_name(one.target)} *"
        if one.kind in {TYPEDEF, INT, FLOAT}:
            return one.name
        if one.kind in _TRANSPARENT:
            return self.type_name(one.target)
        word = {STRUCT: "struct", UNION: "union", ENUM: "enum", ENUM64: "enum"}.get(one.kind, "void")
        return f"{word} {one.name}".strip()

    def members(self, type_id: int) -> Iterator[Member]:
        """Of a struct, union or data section, those of unnamed structs and unions in it included."""
        for member in self.types[self.strip(type_id)].members:
            inner = self.types[self.strip(member.type)]
            if self.types[member.type].kind == VAR:
                yield member._replace(name=self.types[member.type].name)
            elif not member.name and inner.kind in {STRUCT, UNION}:
                for nested in self.members(member.type):
                    yield nested._replace(offset=nested.offset + member.offset)
            elif member.name:
                yield member

    def dtype(self, of: str | int) -> np.dtype[Any]:
        """The numpy dtype of a type, by name or id."""
        type_id = self.strip(self.find(of) if isinstance(of, str) else of)
        known = self._dtypes.get(type_id)
        if known is None:
            known = self._dtypes[type_id] = self._make_dtype(type_id)
        return known

    def _make_dtype(self, type_id: int) -> np.dtype[Any]:
        import numpy as np

        one = self.types[type_id]
        if one.kind in {INT, ENUM, ENUM64}:
            return np.dtype("?" if one.boolean else f"{'i' if one.signed else 'u'}{one.size}")
        if one.kind == FLOAT:
            return np.dtype(f"f{one.size}")
        if one.kind == PTR:
            return np.dtype("u8")
        if one.kind == ARRAY:
            text = self.is_char(one.target) and one.length > 0
            return np.dtype(f"S{one.length}") if text else np.dtype((self.dtype(one.target), (one.length,)))
        if one.kind in {STRUCT, UNION, DATASEC}:
            plain = [member for member in self.members(type_id) if not member.bits]
            names = [member.name for member in plain]
            formats = [self.dtype(member.type) for member in plain]
            offsets = [member.offset for member in plain]
            return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": one.size})
        return np.dtype(f"V{one.size}")


def _parse(data: bytes) -> Iterator[Type]:
    magic, _, _, header, type_offset, type_length, string_offset, string_length = struct.unpack_from("=HBBIIIII", data)
    if magic != 0xEB9F:
        raise CiliumpyError(f"not BTF of this machine's byte order: magic {magic:#x}")
    strings = data[header + string_offset : header + string_offset + string_length]

    def text(offset: int) -> str:
        return strings[offset : strings.index(b"\0", offset)].decode(errors="replace")

    yield Type(0, "void")
    position, end = header + type_offset, header + type_offset + type_length
    while position < end:
        name_offset, info, size = struct.unpack_from("=III", data, position)
        kind, length, flag = info >> 24 & 0x1F, info & 0xFFFF, bool(info >> 31)
        name = text(name_offset)
        position += 12
        if kind == INT:
            (encoded,) = struct.unpack_from("=I", data, position)
            yield Type(kind, name, size, encoding=encoded >> 24 & 0xF)
            position += 4
        elif kind == ARRAY:
            element, _, count = struct.unpack_from("=III", data, position)
            yield Type(kind, name, target=element, length=count)
            position += 12
        elif kind in {STRUCT, UNION}:
            rows = struct.iter_unpack("=III", data[position : position + 12 * length])
            members = tuple(
                Member(text(at), of, (bit := offset & 0xFFFFFF) >> 3, offset >> 24, bit & 7)
                if flag
                else Member(text(at), of, offset >> 3)
                for at, of, offset in rows
            )
            yield Type(kind, name, size, members=members)
            position += 12 * length
        elif kind == ENUM:
            rows = struct.iter_unpack("=Ii" if flag else "=II", data[position : position + 8 * length])
            values = tuple((text(at), value) for at, value in rows)
            yield Type(kind, name, size, encoding=_SIGNED if flag else 0, values=values)
            position += 8 * length
        elif kind == ENUM64:
            rows = struct.iter_unpack("=Iq" if flag else "=IQ", data[position : position + 12 * length])
            values = tuple((text(at), value) for at, value in rows)
            yield Type(kind, name, size, encoding=_SIGNED if flag else 0, values=values)
            position += 12 * length
        elif kind == DATASEC:
            rows = struct.iter_unpack("=III", data[position : position + 12 * length])
            yield Type(kind, name, size, members=tuple(Member("", of, offset) for of, offset, _ in rows))
            position += 12 * length
        elif kind in {FWD, FLOAT}:
            yield Type(kind, name, size if kind == FLOAT else 0)
        else:  # PTR, TYPEDEF, qualifiers, FUNC, FUNC_PROTO, VAR, DECL_TAG, TYPE_TAG
            yield Type(kind, name, target=size)
            position += {FUNC_PROTO: 8 * length, VAR: 4, DECL_TAG: 4}.get(kind, 0)


def _elf_section(path: Path, wanted: str) -> bytes:
    """One section of a 64-bit ELF file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CiliumpyError(
            f"cannot read {path}: {error.strerror}", hint="build the objects: python -m ciliumpy.bpf.build"
        ) from error
    if data[:5] != b"\x7fELF\x02":
        raise CiliumpyError(f"{path} is not a 64-bit ELF object")
    (table,) = struct.unpack_from("=Q", data, 40)
    entry, count, names = struct.unpack_from("=HHH", data, 58)
    headers = [struct.unpack_from("=IIQQQQ", data, table + number * entry) for number in range(count)]
    base = headers[names][4]
    for name, _, _, _, offset, size in headers:
        start = base + name
        if data[start : data.index(b"\0", start)].decode() == wanted:
            return data[offset : offset + size]
    raise CiliumpyError(f"{path} has no section {wanted}", hint="compile it with -g")
