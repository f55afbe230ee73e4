# SPDX-License-Identifier: Apache-2.0
"""bpf(2) by ctypes: one function per command, numbers and layouts as in the kernel's uapi/linux/bpf.h.

Addresses are plain integers; the caller keeps their buffers alive for the call. A failure is an OSError with the
kernel's errno. Nothing here is imported beyond the standard library.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

BPF_ANY, BPF_NOEXIST, BPF_EXIST = 0, 1, 2
BPF_F_NO_PREALLOC = 1
NAME_LENGTH = 15  # the kernel's names: 16 bytes with the final zero
ENOTSUPP = 524  # the kernel's own; it has no name in user space


class Command(IntEnum):
    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_TEST_RUN = 10
    PROG_GET_FD_BY_ID = 13
    MAP_GET_FD_BY_ID = 14
    OBJ_GET_INFO_BY_FD = 15
    PROG_QUERY = 16
    BTF_GET_FD_BY_ID = 19
    MAP_FREEZE = 22
    MAP_LOOKUP_BATCH = 24
    MAP_UPDATE_BATCH = 26
    MAP_DELETE_BATCH = 27
    LINK_CREATE = 28
    LINK_UPDATE = 29
    LINK_GET_FD_BY_ID = 30
    LINK_DETACH = 34


class MapType(IntEnum):
    UNSPEC = 0
    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERF_EVENT_ARRAY = 4
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    STACK_TRACE = 7
    CGROUP_ARRAY = 8
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    DEVMAP = 14
    SOCKMAP = 15
    CPUMAP = 16
    XSKMAP = 17
    SOCKHASH = 18
    CGROUP_STORAGE = 19
    REUSEPORT_SOCKARRAY = 20
    PERCPU_CGROUP_STORAGE = 21
    QUEUE = 22
    STACK = 23
    SK_STORAGE = 24
    DEVMAP_HASH = 25
    STRUCT_OPS = 26
    RINGBUF = 27
    INODE_STORAGE = 28
    TASK_STORAGE = 29
    BLOOM_FILTER = 30
    USER_RINGBUF = 31
    CGRP_STORAGE = 32
    ARENA = 33

    @classmethod
    def label(cls, number: int) -> str:
        """The name in lower case as bpftool prints it, or "type N" for one that is newer than this list."""
        return cls(number).name.lower() if number in cls._value2member_map_ else f"type {number}"


PER_CPU_TYPES = frozenset({MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH})
MAP_OF_MAPS_TYPES = frozenset({MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS})


class AttachType(IntEnum):
    TCX_INGRESS = 46
    TCX_EGRESS = 47


class MapInfo(NamedTuple):
    """The head of struct bpf_map_info; sizes in bytes."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str
    btf_id: int
    btf_key_type_id: int
    btf_value_type_id: int


class ProgramInfo(NamedTuple):
    """`xlated_bytes`: the rewritten program, 8 bytes an instruction; `verified`: instructions the verifier walked."""

    type: int
    id: int
    name: str
    tag: str
    xlated_bytes: int
    jited_bytes: int
    verified: int
    run_time_ns: int
    run_count: int


class LinkInfo(NamedTuple):
    """Of a tcx link. `ifindex` is 0 once the device is gone."""

    type: int
    id: int
    program_id: int
    ifindex: int
    attach_type: int


class TestRun(NamedTuple):
    """`duration_ns` is the mean of one repetition, `sizes` the output's full lengths (data, context)."""

    retval: int
    duration_ns: int
    data_size: int
    ctx_size: int


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    libc.syscall.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_uint]
    return libc


@functools.cache
def _syscall_number() -> int:
    machine = os.uname().machine
    numbers = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
    if machine not in numbers:
        raise OSError(errno.ENOSYS, f"the number of bpf(2) on {machine} is not known")
    return numbers[machine]


def call(command: Command, attr: ctypes.Array[ctypes.c_char]) -> int:
    """bpf(command, attr, sizeof attr); `attr` is written to by some commands."""
    result: int = _libc().syscall(_syscall_number(), command, attr, len(attr))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{command.name}: {os.strerror(number)}")
    return result


def _call(command: Command, packed: bytes) -> int:
    return call(command, ctypes.create_string_buffer(packed, len(packed)))


def address(data: bytes | bytearray | ctypes.Array[ctypes.c_char]) -> int:
    """Where the buffer's bytes lie; valid while the caller keeps `data`."""
    if isinstance(data, bytes):
        return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
    if isinstance(data, bytearray):
        return ctypes.addressof(ctypes.c_char.from_buffer(data)) if data else 0
    return ctypes.addressof(data)


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode(errors="replace")


# ---- maps ------------------------------------------------------------------------------------------------------------


def map_create(
    map_type: int,
    key_size: int,
    value_size: int,
    max_entries: int,
    *,
    name: str = "",
    flags: int = 0,
    inner_map_fd: int = 0,
) -> int:
    """A new map's descriptor (close-on-exec, as all descriptors of bpf(2))."""
    sizes = (map_type, key_size, value_size, max_entries, flags, inner_map_fd, 0)
    return _call(Command.MAP_CREATE, struct.pack("=7I16s4I", *sizes, name.encode()[:NAME_LENGTH], 0, 0, 0, 0))


def map_lookup(fd: int, key: int, value: int) -> bool:
    """Copy the value of the key at address `key` to address `value`; False if there is none."""
    try:
        _call(Command.MAP_LOOKUP_ELEM, struct.pack("=IxxxxQQQ", fd, key, value, 0))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def map_update(fd: int, key: int, value: int, flags: int = BPF_ANY) -> None:
    _call(Command.MAP_UPDATE_ELEM, struct.pack("=IxxxxQQQ", fd, key, value, flags))


def map_delete(fd: int, key: int) -> bool:
    """False if there was none."""
    try:
        _call(Command.MAP_DELETE_ELEM, struct.pack("=IxxxxQQQ", fd, key, 0, 0))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def map_next_key(fd: int, key: int, next_key: int) -> bool:
    """Write the key after the one at address `key` (0: the first) to `next_key`; False at the end."""
    try:
        _call(Command.MAP_GET_NEXT_KEY, struct.pack("=IxxxxQQQ", fd, key, next_key, 0))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def map_batch(
    command: Command, fd: int, keys: int, values: int, count: int, *, in_batch: int = 0, out_batch: int = 0
) -> tuple[int, int]:
    """One batch command: (rows that were done, errno or 0). Both matter: ENOENT ends a walk with rows in hand."""
    packed = struct.pack("=QQQQIIQQ", in_batch, out_batch, keys, values, count, fd, 0, 0)
    attr = ctypes.create_string_buffer(packed, len(packed))
    try:
        call(command, attr)
    except OSError as error:
        return int(struct.unpack_from("=I", attr, 32)[0]), error.errno or errno.EIO
    return int(struct.unpack_from("=I", attr, 32)[0]), 0


def map_freeze(fd: int) -> None:
    """No writes from user space from now on."""
    _call(Command.MAP_FREEZE, struct.pack("=I", fd))


# ---- programs and links ----------------------------------------------------------------------------------------------


def program_load(kind: int, instructions: bytes, license_text: bytes = b"GPL") -> int:
    """A program without maps, for trying out what the kernel has (libbpf loads the real ones)."""
    text = license_text + b"\0"
    packed = struct.pack(
        "=IIQQIIQII16sI",
        *(kind, len(instructions) // 8, address(instructions), address(text), 0, 0, 0, 0, 0, b"", 0),
    )
    return _call(Command.PROG_LOAD, packed)


def program_test_run(
    fd: int,
    *,
    data_in: int,
    data_in_size: int,
    data_out: int,
    data_out_size: int,
    ctx_in: int = 0,
    ctx_in_size: int = 0,
    ctx_out: int = 0,
    ctx_out_size: int = 0,
    repeat: int = 1,
) -> TestRun:
    packed = struct.pack(
        "=4IQQ4IQQ4I",
        *(fd, 0, data_in_size, data_out_size, data_in, data_out),
        *(repeat, 0, ctx_in_size, ctx_out_size, ctx_in, ctx_out),
        *(0, 0, 0, 0),
    )
    attr = ctypes.create_string_buffer(packed, len(packed))
    call(Command.PROG_TEST_RUN, attr)
    _, retval, _, data_size, _, _, _, duration, _, ctx_size, *_ = struct.unpack("=4IQQ4IQQ4I", attr.raw)
    return TestRun(retval, duration, data_size, ctx_size)


def link_create(program_fd: int, ifindex: int, attach_type: int) -> int:
    """A tcx link behind those that are there already."""
    return _call(Command.LINK_CREATE, struct.pack("=4I2IQ", program_fd, ifindex, attach_type, 0, 0, 0, 0))


def link_update(link_fd: int, program_fd: int) -> None:
    """Replace the link's program atomically: each packet sees the old one or the new one."""
    _call(Command.LINK_UPDATE, struct.pack("=4I", link_fd, program_fd, 0, 0))


def link_detach(link_fd: int) -> None:
    _call(Command.LINK_DETACH, struct.pack("=I", link_fd))


def program_query(ifindex: int, attach_type: int, room: int = 64) -> list[int]:
    """The numbers of the programs on a device's tcx hook, in the order in which packets meet them."""
    numbers = (ctypes.c_uint32 * room)()
    packed = struct.pack("=4IQI4x4Q", ifindex, attach_type, 0, 0, ctypes.addressof(numbers), room, 0, 0, 0, 0)
    attr = ctypes.create_string_buffer(packed, len(packed))
    try:
        call(Command.PROG_QUERY, attr)
    except OSError as error:
        if error.errno != errno.ENOSPC or room > 1 << 16:
            raise
        return program_query(ifindex, attach_type, room * 4)
    (count,) = struct.unpack_from("=I", attr, 24)
    return list(numbers[:count])


# ---- objects: pins, numbers, what is known of them -------------------------------------------------------------------


def obj_pin(fd: int, path: Path) -> None:
    name = os.fsencode(path) + b"\0"
    _call(Command.OBJ_PIN, struct.pack("=QII", address(name), fd, 0))


def obj_get(path: Path) -> int:
    name = os.fsencode(path) + b"\0"
    return _call(Command.OBJ_GET, struct.pack("=QII", address(name), 0, 0))


def fd_by_id(command: Command, number: int) -> int:
    """A new descriptor; `command` is one of the ..._GET_FD_BY_ID."""
    return _call(command, struct.pack("=III", number, 0, 0))


def obj_info(fd: int, size: int, head: bytes = b"") -> bytes:
    """`size` bytes of the object's info; what the kernel does not know stays zero. `head` is passed in."""
    info = ctypes.create_string_buffer(head, size)
    _call(Command.OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", fd, size, address(info)))
    return info.raw


def map_info(fd: int) -> MapInfo:
    fields = struct.unpack_from("=6I16sIIQQIII", obj_info(fd, 80))
    kind, number, key, value, entries, flags, name, _, _, _, _, btf, key_type, value_type = fields
    return MapInfo(kind, number, key, value, entries, flags, _text(name), btf, key_type, value_type)


def program_info(fd: int) -> ProgramInfo:
    raw = obj_info(fd, 232)
    kind, number, tag, jited, xlated = struct.unpack_from("=II8sII", raw)
    run_time, run_count, _, verified = struct.unpack_from("=QQQI", raw, 192)
    return ProgramInfo(kind, number, _text(raw[64:80]), tag.hex(), xlated, jited, verified, run_time, run_count)


def program_maps(fd: int, room: int = 64) -> list[int]:
    """Ids of the maps that a program uses, its constants' included."""
    ids = (ctypes.c_uint32 * room)()
    raw = obj_info(fd, 232, bytes(52) + struct.pack("=IQ", room, ctypes.addressof(ids)))
    count = min(room, struct.unpack_from("=I", raw, 52)[0])
    return list(ids[:count])


def link_info(fd: int) -> LinkInfo:
    kind, number, program, _, ifindex, attach_type = struct.unpack_from("=6I", obj_info(fd, 64))
    return LinkInfo(kind, number, program, ifindex, attach_type)


def btf_data(btf_id: int) -> bytes:
    """The raw BTF of a kernel object."""
    fd = fd_by_id(Command.BTF_GET_FD_BY_ID, btf_id)
    try:
        _, size, *_ = struct.unpack_from("=QIIQII", obj_info(fd, 32))
        data = ctypes.create_string_buffer(size)
        obj_info(fd, 32, struct.pack("=QI", address(data), size))
        return data.raw
    finally:
        os.close(fd)


@functools.cache
def possible_cpus() -> int:
    """How many values a per-CPU row has."""
    last = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii").strip().rpartition(",")[2]
    return int(last.rpartition("-")[2]) + 1
