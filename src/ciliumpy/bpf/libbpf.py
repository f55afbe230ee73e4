# SPDX-License-Identifier: Apache-2.0
"""libbpf.so.1 by ctypes, for what it is best at: open an object, relocate it, create its maps, load its programs.

Every binding stands here. libbpf 1.x returns -errno from calls and sets errno with a null pointer; `Object` turns both
into errors. libbpf prints through one callback for the whole process: it is held under a lock while an object is open,
and what it said becomes part of the error.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from typing import TYPE_CHECKING, Any, Self

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

FLOOR = (1, 0)
LOG_BYTES = 4 << 20
_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_lock = threading.Lock()

_pointer, _text, _int, _u32 = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32
_BINDINGS: dict[str, tuple[Any, list[Any]]] = {
    "libbpf_set_print": (_pointer, [_pointer]),
    "bpf_object__open_file": (_pointer, [_text, _pointer]),
    "bpf_object__load": (_int, [_pointer]),
    "bpf_object__close": (None, [_pointer]),
    "bpf_object__btf": (_pointer, [_pointer]),
    "btf__raw_data": (_pointer, [_pointer, ctypes.POINTER(_u32)]),
    "bpf_object__next_map": (_pointer, [_pointer, _pointer]),
    "bpf_object__next_program": (_pointer, [_pointer, _pointer]),
    "bpf_map__name": (_text, [_pointer]),
    "bpf_map__fd": (_int, [_pointer]),
    "bpf_map__type": (_int, [_pointer]),
    "bpf_map__key_size": (_u32, [_pointer]),
    "bpf_map__value_size": (_u32, [_pointer]),
    "bpf_map__max_entries": (_u32, [_pointer]),
    "bpf_map__map_flags": (_u32, [_pointer]),
    "bpf_map__btf_key_type_id": (_u32, [_pointer]),
    "bpf_map__btf_value_type_id": (_u32, [_pointer]),
    "bpf_map__is_internal": (ctypes.c_bool, [_pointer]),
    "bpf_map__set_max_entries": (_int, [_pointer, _u32]),
    "bpf_map__set_inner_map_fd": (_int, [_pointer, _int]),
    "bpf_map__reuse_fd": (_int, [_pointer, _int]),
    "bpf_map__initial_value": (_pointer, [_pointer, ctypes.POINTER(ctypes.c_size_t)]),
    "bpf_program__name": (_text, [_pointer]),
    "bpf_program__fd": (_int, [_pointer]),
}


class OpenOptions(ctypes.Structure):
    """struct bpf_object_open_opts of libbpf 1.0; `sz` tells libbpf how much of it we know."""

    _fields_ = [  # type: ignore[mutable-override]
        ("sz", ctypes.c_size_t),
        ("object_name", _text),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", _text),
        ("reserved", _u32),
        ("kconfig", _text),
        ("btf_custom_path", _text),
        ("kernel_log_buf", _pointer),
        ("kernel_log_size", ctypes.c_size_t),
        ("kernel_log_level", _u32),
    ]


@functools.cache
def library() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise CiliumpyError(f"cannot load libbpf.so.1: {error}", hint="install it: apt-get install libbpf1") from error
    found = (lib.libbpf_major_version(), lib.libbpf_minor_version())
    if found < FLOOR:
        raise CiliumpyError(
            f"libbpf {found[0]}.{found[1]} is too old, {FLOOR[0]}.{FLOOR[1]} is needed", hint="upgrade libbpf1"
        )
    for name, (result, arguments) in _BINDINGS.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


class ObjectMap:
    """A map of an object that is open: what it will be like, until `load` creates it."""

    def __init__(self, pointer: int) -> None:
        lib = library()
        self._pointer = pointer
        self.name: str = lib.bpf_map__name(pointer).decode()
        self.internal: bool = lib.bpf_map__is_internal(pointer)
        self.type: int = lib.bpf_map__type(pointer)
        self.key_size: int = lib.bpf_map__key_size(pointer)
        self.value_size: int = lib.bpf_map__value_size(pointer)
        self.flags: int = lib.bpf_map__map_flags(pointer)
        self.key_type: int = lib.bpf_map__btf_key_type_id(pointer)
        self.value_type: int = lib.bpf_map__btf_value_type_id(pointer)

    @property
    def max_entries(self) -> int:
        entries: int = library().bpf_map__max_entries(self._pointer)
        return entries

    @property
    def fd(self) -> int:
        """A descriptor of libbpf's own, closed with the object."""
        fd: int = library().bpf_map__fd(self._pointer)
        return fd

    def set_max_entries(self, entries: int) -> None:
        _check(library().bpf_map__set_max_entries(self._pointer, entries), f"set the size of map {self.name}")

    def set_inner_map(self, fd: int) -> None:
        _check(library().bpf_map__set_inner_map_fd(self._pointer, fd), f"set the inner map of {self.name}")

    def reuse(self, fd: int) -> None:
        """Take an existing map (libbpf keeps its own copy of the descriptor)."""
        _check(library().bpf_map__reuse_fd(self._pointer, fd), f"reuse map {self.name}")

    def initial_value(self) -> ctypes.Array[ctypes.c_char]:
        """The content of an internal map (.rodata, .data, .bss), writable until `load`; lives as long as the object."""
        size = ctypes.c_size_t()
        start = library().bpf_map__initial_value(self._pointer, ctypes.byref(size))
        if not start:
            raise CiliumpyError(f"map {self.name} has no initial value")
        return (ctypes.c_char * size.value).from_address(start)


class ObjectProgram:
    """A program of an object that is open."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer
        self.name: str = library().bpf_program__name(pointer).decode()

    @property
    def fd(self) -> int:
        """A descriptor of libbpf's own, closed with the object."""
        fd: int = library().bpf_program__fd(self._pointer)
        return fd


class Object:
    """A BPF object file between open and close, to be used in a `with` block.

    `messages` is what libbpf had to say. `load` raises `LoadError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.messages: list[str] = []
        self.maps: list[ObjectMap] = []
        self.programs: list[ObjectProgram] = []
        self._pointer = 0
        self._previous_print = 0

    def __enter__(self) -> Self:
        lib = library()
        _lock.acquire()
        self._print = _PRINT(self._collect)
        self._previous_print = lib.libbpf_set_print(self._print)
        try:
            self._open()
        except BaseException:
            self._leave()
            raise
        return self

    def _open(self) -> None:
        lib = library()
        options = OpenOptions(sz=ctypes.sizeof(OpenOptions), object_name=self.path.stem.encode())
        self._kernel_log = ctypes.create_string_buffer(LOG_BYTES)
        options.kernel_log_buf = ctypes.addressof(self._kernel_log)
        options.kernel_log_size = LOG_BYTES
        self._pointer = lib.bpf_object__open_file(os.fsencode(self.path), ctypes.byref(options)) or 0
        if not self._pointer:
            raise self._unreadable(ctypes.get_errno())
        self.maps = [ObjectMap(pointer) for pointer in self._each(lib.bpf_object__next_map)]
        self.programs = [ObjectProgram(pointer) for pointer in self._each(lib.bpf_object__next_program)]

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        lib = library()
        if self._pointer:
            lib.bpf_object__close(self._pointer)
            self._pointer = 0
        lib.libbpf_set_print(self._previous_print)
        _lock.release()

    def _each(self, following: Any) -> Iterator[int]:
        pointer = following(self._pointer, None)
        while pointer:
            yield pointer
            pointer = following(self._pointer, pointer)

    def _collect(self, level: int, form: int, arguments: int) -> int:
        if level <= 1:  # warnings and information, not its debugging
            line = ctypes.create_string_buffer(4096)
            ctypes.CDLL(None).vsnprintf(line, _size(line), ctypes.c_void_p(form), ctypes.c_void_p(arguments))
            self.messages.append(line.value.decode(errors="replace").rstrip().removeprefix("libbpf: "))
        return 0

    def _unreadable(self, number: int) -> CiliumpyError:
        return CiliumpyError(
            f"cannot open BPF object {self.path}: {self.messages[-1] if self.messages else os.strerror(number)}",
            hint="build the objects: python -m ciliumpy.bpf.build",
        )

    def btf_data(self) -> bytes:
        """The object's BTF, with the final offsets of its data sections."""
        lib = library()
        size = _u32()
        start = lib.btf__raw_data(lib.bpf_object__btf(self._pointer), ctypes.byref(size))
        return ctypes.string_at(start, size.value)

    def load(self) -> None:
        """Create the maps that are not reused and load all programs."""
        result = library().bpf_object__load(self._pointer)
        if result < 0:
            raise LoadError(self.path, -result, self.messages, self._kernel_log.value.decode(errors="replace"))


class LoadError(Exception):
    """The kernel or libbpf refused the object: `messages` of libbpf, `log` of the verifier (of the last program)."""

    def __init__(self, path: Path, number: int, messages: list[str], log: str) -> None:
        super().__init__(f"{path}: {os.strerror(number)}")
        self.errno = number
        self.messages = messages
        self.log = log


def _size(buffer: ctypes.Array[ctypes.c_char]) -> ctypes.c_size_t:
    return ctypes.c_size_t(len(buffer))


def _check(result: int, what: str) -> None:
    if result < 0:
        raise CiliumpyError(f"libbpf could not {what}: {os.strerror(-result)}")
