# SPDX-License-Identifier: Apache-2.0
"""What maps are pinned in a folder, and how full they are. Standard library only: short commands use it."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.bpf import sys
from ciliumpy.bpf.sys import Command, MapType
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK_BYTES = 1 << 20
_ALWAYS_FULL = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY})


class PinnedMap(NamedTuple):
    """Sizes in bytes. `entries` is None where there are none to count; arrays are full. `memlock`: the map's memory."""

    name: str
    type: str
    id: int
    key_size: int
    value_size: int
    entries: int | None
    max_entries: int
    flags: int
    memlock: int
    path: str


def list_maps(folder: Path) -> list[PinnedMap]:
    """The maps pinned in a folder of a BPF file system and below it, by name; other pins are passed over.

    The name of a map is its path from the folder on.
    """
    return [row for path in _pins(folder) if (row := _read(path, str(path.relative_to(folder)))) is not None]


def _pins(folder: Path) -> Iterator[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise CiliumpyError(
            f"cannot list {folder}: {error.strerror}",
            hint="is the agent running?" if error.errno == errno.ENOENT else "this needs root",
        ) from error
    for path in paths:
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from _pins(path)
        else:
            yield path


def count_entries(fd: int, info: sys.MapInfo | None = None) -> int | None:
    """How many rows a map has; exact while nobody writes."""
    info = info or sys.map_info(fd)
    if info.type in _ALWAYS_FULL:
        return info.max_entries
    if not info.key_size:
        return None
    counted = _count_by_batch(fd, info)
    return _count_by_walk(fd, info) if counted is None else counted


def _read(path: Path, name: str) -> PinnedMap | None:
    with _opened(path) as fd:
        if fd < 0:
            return None
        try:
            with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:  # noqa: PTH123 - not a file of ours
                facts = dict(line.split(":", 1) for line in lines if ":" in line)
        except OSError as error:
            raise CiliumpyError(f"cannot read what {path} is: {error.strerror}") from error
        if "map_type" not in facts:
            return None
        info = sys.map_info(fd)
        return PinnedMap(
            name=name,
            type=MapType.label(info.type),
            id=info.id,
            key_size=info.key_size,
            value_size=info.value_size,
            entries=count_entries(fd, info),
            max_entries=info.max_entries,
            flags=info.flags,
            memlock=int(facts.get("memlock", "0")),
            path=str(path),
        )


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor, or -1 for what is no pin or has just gone."""
    try:
        fd = sys.obj_get(path)
    except OSError as error:
        # The kernel's own files (maps.debug) may be read, and are no pins: that is EACCES too.
        if error.errno == errno.EPERM or (error.errno == errno.EACCES and not os.access(path, os.R_OK)):
            raise CiliumpyError(f"cannot open {path}: {os.strerror(error.errno)}", hint="this needs root") from error
        yield -1
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _count_by_batch(fd: int, info: sys.MapInfo) -> int | None:
    """By LOOKUP_BATCH, 0.3 us a row; None where the map has no batches."""
    per_cpu = info.type in sys.PER_CPU_TYPES
    stride = -(-info.value_size // 8) * 8 * sys.possible_cpus() if per_cpu else info.value_size
    chunk = max(1, min(info.max_entries, _CHUNK_BYTES // (stride + info.key_size)))
    keys, values = bytearray(chunk * info.key_size), bytearray(chunk * stride)
    cursor, following = bytearray(max(info.key_size, 8)), bytearray(max(info.key_size, 8))
    total, first, stuck = 0, True, 0
    while True:
        done, number = sys.map_batch(
            Command.MAP_LOOKUP_BATCH,
            fd,
            sys.address(keys),
            sys.address(values),
            chunk,
            in_batch=0 if first else sys.address(cursor),
            out_batch=sys.address(following),
        )
        if number == errno.ENOSPC and chunk < info.max_entries:  # one hash bucket has more rows than that
            chunk = min(2 * chunk, info.max_entries)
            keys, values = bytearray(chunk * info.key_size), bytearray(chunk * stride)
            continue
        total += done
        if number == errno.ENOENT:
            return min(total, info.max_entries)
        stuck = stuck + 1 if not done else 0
        if number not in {0, errno.EINTR} or stuck > 100:
            return None
        if done:
            cursor, following, first = following, cursor, False


def _count_by_walk(fd: int, info: sys.MapInfo) -> int | None:
    """Key by key, 1 us a row; an array of maps counts only the slots that hold one."""
    key, following, value = bytearray(info.key_size), bytearray(info.key_size), bytearray(info.value_size)
    total, place = 0, 0
    for _ in range(info.max_entries):
        try:
            if not sys.map_next_key(fd, place, sys.address(following)):
                break
        except OSError:
            return None
        if info.type != MapType.ARRAY_OF_MAPS or sys.map_lookup(fd, sys.address(following), sys.address(value)):
            total += 1
        key, following = following, key
        place = sys.address(key)
    return total
