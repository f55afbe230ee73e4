# SPDX-License-Identifier: Apache-2.0
"""Maps, typed by their BTF: single rows and whole batches, as bytes or as numpy arrays.

Shapes: keys (n,) of the key's dtype, values (n,) of the value's, per-CPU values (n, cpus). A map without BTF has rows
of `V<size>`, and its `key_dtype` and `value_dtype` are None. A batch falls back to single calls where the kernel has no
batch for the type. What the kernel refuses is a `MapError`, which says how many rows were done before.
"""

from __future__ import annotations

import errno
import functools
import os
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ciliumpy.bpf import sys
from ciliumpy.bpf.btf import Btf
from ciliumpy.bpf.sys import Command, MapType
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

Array = np.ndarray[Any, np.dtype[Any]]
Row = bytes | int | np.generic | Array
Rows = bytes | Array

_CHUNK = 4096  # rows a batch call reads at first; grown where a hash bucket is longer
_NO_BATCH = frozenset({sys.ENOTSUPP, errno.EOPNOTSUPP, errno.EINVAL})


class MapError(CiliumpyError):
    """A map operation that the kernel refused: `errno`, and `done`, the rows of the call that were written before."""

    def __init__(self, message: str, number: int, *, done: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.errno = number
        self.done = done


class Map:
    """An open map. It owns `fd`; `close()` or the end of a `with` closes it, the map lives on in other holders."""

    def __init__(self, fd: int, btf: Btf | None = None) -> None:
        self.fd = fd
        self.info = info = sys.map_info(fd)
        self.name, self.id, self.type, self.flags = info.name, info.id, info.type, info.flags
        self.key_size, self.value_size, self.max_entries = info.key_size, info.value_size, info.max_entries
        self.cpus = sys.possible_cpus() if info.type in sys.PER_CPU_TYPES else 0
        self._known_btf = btf
        self._stride = -(-info.value_size // 8) * 8 * self.cpus if self.cpus else info.value_size

    @classmethod
    def from_fd(cls, fd: int, btf: Btf | None = None) -> Self:
        """Takes the descriptor over, also when it fails."""
        try:
            return cls(fd, btf)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def from_id(cls, number: int) -> Self:
        try:
            return cls.from_fd(sys.fd_by_id(Command.MAP_GET_FD_BY_ID, number))
        except OSError as error:
            raise MapError(f"no map {number}: {os.strerror(error.errno or 0)}", error.errno or 0) from error

    @classmethod
    def open_pinned(cls, path: Path) -> Self:
        try:
            return cls.from_fd(sys.obj_get(path))
        except OSError as error:
            hint = "is the agent running?" if error.errno == errno.ENOENT else "this needs root"
            raise MapError(
                f"cannot open map {path}: {os.strerror(error.errno or 0)}", error.errno or 0, hint=hint
            ) from error

    @classmethod
    def create(
        cls, kind: MapType, key_size: int, value_size: int, max_entries: int, *, name: str = "", flags: int = 0
    ) -> Self:
        """A map without BTF (rings, templates of inner maps)."""
        try:
            return cls.from_fd(sys.map_create(kind, key_size, value_size, max_entries, name=name, flags=flags))
        except OSError as error:
            raise MapError(
                f"cannot create map {name} ({kind.name}, {max_entries} entries): {os.strerror(error.errno or 0)}",
                error.errno or 0,
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Map {self.name} {self.layout}>"

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @property
    def layout(self) -> str:
        return describe(self.type, self.key_size, self.value_size, self.max_entries, self.flags)

    @functools.cached_property
    def btf(self) -> Btf | None:
        if self._known_btf is not None or not self.info.btf_id:
            return self._known_btf
        return Btf.from_kernel(self.info.btf_id)

    @functools.cached_property
    def key_dtype(self) -> np.dtype[Any] | None:
        return self._typed(self.info.btf_key_type_id, self.key_size)

    @functools.cached_property
    def value_dtype(self) -> np.dtype[Any] | None:
        return self._typed(self.info.btf_value_type_id, self.value_size)

    def _typed(self, type_id: int, size: int) -> np.dtype[Any] | None:
        if not type_id or self.btf is None:
            return None
        dtype = as_row(self.btf.dtype(type_id))
        return dtype if dtype.itemsize == size else None

    @functools.cached_property
    def _key(self) -> np.dtype[Any]:
        return self.key_dtype or np.dtype(f"V{self.key_size}")

    @functools.cached_property
    def _value(self) -> np.dtype[Any]:
        return self.value_dtype or np.dtype(f"V{self.value_size}")

    # ---- one row -----------------------------------------------------------------------------------------------------

    def lookup_bytes(self, key: Row) -> bytes | None:
        """The raw value: of a per-CPU map all of them, each padded to 8 bytes."""
        wanted, value = self._key_bytes(key), bytearray(self._stride)
        with self._refusal("read from"):
            found = sys.map_lookup(self.fd, sys.address(wanted), sys.address(value))
        return bytes(value) if found else None

    def lookup(self, key: Row) -> Any:
        """The value as a numpy scalar (structured: a record; per-CPU: an array (cpus,)), or None."""
        raw = self.lookup_bytes(key)
        return None if raw is None else self._decode_values(np.frombuffer(bytearray(raw), "u1"))[0]

    def update(self, key: Row, value: Row, flags: int = sys.BPF_ANY) -> None:
        """`flags`: BPF_ANY, BPF_NOEXIST (EEXIST if there is one) or BPF_EXIST (ENOENT if there is none)."""
        key_bytes = self._key_bytes(key)
        value_bytes = self._encode_values(np.frombuffer(self._bytes(value, self._value, per_cpu=True), "u1")).tobytes()
        with self._refusal("write to"):
            sys.map_update(self.fd, sys.address(key_bytes), sys.address(value_bytes), flags)

    def delete(self, key: Row) -> bool:
        """False if there was none."""
        wanted = self._key_bytes(key)
        with self._refusal("delete from"):
            return sys.map_delete(self.fd, sys.address(wanted))

    def freeze(self) -> None:
        """No writes from user space from now on."""
        with self._refusal("freeze"):
            sys.map_freeze(self.fd)

    def pin(self, path: Path) -> None:
        try:
            sys.obj_pin(self.fd, path)
        except OSError as error:
            raise MapError(
                f"cannot pin map {self.name} at {path}: {os.strerror(error.errno or 0)}", error.errno or 0
            ) from error

    def inner(self, key: Row) -> Map | None:
        """The map that this map of maps holds under the key."""
        raw = self.lookup_bytes(key)
        return None if raw is None else Map.from_id(int.from_bytes(raw, "little"))

    # ---- many rows ---------------------------------------------------------------------------------------------------

    def items(self) -> tuple[Array, Array]:
        """All rows: (keys, values). A row that comes or goes meanwhile may be in it or not; none is in it twice."""
        if not self.key_size:
            raise MapError(f"map {self.name} ({MapType.label(self.type)}) has no keys to walk", errno.EOPNOTSUPP)
        raw = self._read_batches()
        keys, values = raw if raw is not None else self._read_singly()
        if self.type == MapType.LPM_TRIE:  # its walk restarts at the front when the row it stands on is deleted
            _, first = np.unique(keys.view(f"V{self.key_size}"), return_index=True)
            keys, values = keys.reshape(-1, self.key_size)[first], values.reshape(-1, self._stride)[first]
        return np.ascontiguousarray(keys).reshape(-1).view(self._key), self._decode_values(values)

    def update_batch(self, keys: Rows, values: Rows) -> None:
        """Write rows, in order. On a refusal `MapError.done` rows are written; a batch is not atomic."""
        key_rows = self._rows(keys, self._key)
        value_rows = self._encode_values(self._rows(values, self._value))
        count = len(key_rows) // self.key_size
        if len(value_rows) != count * self._stride:
            raise MapError(
                f"{count} keys and {len(value_rows) / self._stride:g} values for map {self.name}", errno.EINVAL
            )
        done, number = self._batch(Command.MAP_UPDATE_BATCH, key_rows, value_rows, 0, count)
        if done == 0 and number in _NO_BATCH:
            done, number = self._update_singly(key_rows, value_rows, count)
        if number:
            raise self._refused("write to", number, done=done)

    def delete_batch(self, keys: Rows) -> int:
        """Delete rows; those that are not there are passed over. The number that were."""
        key_rows = self._rows(keys, self._key)
        count = len(key_rows) // self.key_size
        position = deleted = 0
        while position < count:
            done, number = self._batch(Command.MAP_DELETE_BATCH, key_rows, key_rows, position, count - position)
            deleted += done
            position += done
            if done == 0 and number in _NO_BATCH:
                return deleted + sum(
                    self.delete(key_rows[at * self.key_size : (at + 1) * self.key_size].tobytes())
                    for at in range(position, count)
                )
            if number == errno.ENOENT:
                position += 1
            elif number:
                raise self._refused("delete from", number, done=deleted)
        return deleted

    def _batch(self, command: Command, keys: Array, values: Array, start: int, count: int) -> tuple[int, int]:
        """One writing batch over rows [start, start + count): (rows done, errno or 0)."""
        if not count:
            return 0, 0
        key_address = keys.ctypes.data + start * self.key_size
        done, number = sys.map_batch(command, self.fd, key_address, values.ctypes.data + start * self._stride, count)
        # The kernel leaves the count alone when it refuses the call as such.
        return (0, number) if number and done >= count else (done, number)

    def _update_singly(self, keys: Array, values: Array, count: int) -> tuple[int, int]:
        key_address, value_address = keys.ctypes.data, values.ctypes.data
        for at in range(count):
            try:
                sys.map_update(self.fd, key_address + at * self.key_size, value_address + at * self._stride)
            except OSError as error:
                return at, error.errno or errno.EIO
        return count, 0

    def _read_batches(self) -> tuple[Array, Array] | None:
        """All rows as raw bytes, or None where the kernel has no batches for this type of map."""
        chunk = max(1, min(_CHUNK, self.max_entries))
        cursor = np.zeros(max(self.key_size, 8), "u1")
        following = np.zeros_like(cursor)
        keys, values = self._buffers(chunk)
        parts: list[tuple[Array, Array]] = []
        first, stuck = True, 0
        while True:
            done, number = sys.map_batch(
                Command.MAP_LOOKUP_BATCH,
                self.fd,
                keys.ctypes.data,
                values.ctypes.data,
                chunk,
                in_batch=0 if first else cursor.ctypes.data,
                out_batch=following.ctypes.data,
            )
            if number in _NO_BATCH and first:
                return None
            if number == errno.ENOSPC and chunk < 2 * self.max_entries:  # one bucket has more rows than that
                chunk *= 2
                keys, values = self._buffers(chunk)
                continue
            stuck = stuck + 1 if number == errno.EINTR and not done else 0
            if number not in {0, errno.ENOENT, errno.EINTR} or stuck > 100:
                raise self._refused("read from", number)
            parts.append((keys[: done * self.key_size].copy(), values[: done * self._stride].copy()))
            if number == errno.ENOENT:
                break
            if done:
                cursor, following, first = following, cursor, False
        return np.concatenate([key for key, _ in parts]), np.concatenate([value for _, value in parts])

    def _buffers(self, rows: int) -> tuple[Array, Array]:
        return np.empty(rows * self.key_size, "u1"), np.empty(rows * self._stride, "u1")

    def _read_singly(self) -> tuple[Array, Array]:
        rows: dict[bytes, bytes] = {}
        for key in self.keys():
            value = self.lookup_bytes(key)
            if value is not None:
                rows[key] = value
        return np.frombuffer(b"".join(rows), "u1"), np.frombuffer(b"".join(rows.values()), "u1")

    def keys(self) -> Iterator[bytes]:
        """Walk the keys one by one. When the row it stands on is deleted the walk starts anew: keys may come again."""
        key, following = bytearray(self.key_size), bytearray(self.key_size)
        place = 0
        for _ in range(2 * self.max_entries + 1):
            with self._refusal("walk"):
                if not sys.map_next_key(self.fd, place, sys.address(following)):
                    return
            yield bytes(following)
            key, following = following, key
            place = sys.address(key)

    # ---- bytes and arrays --------------------------------------------------------------------------------------------

    def _key_bytes(self, key: Row) -> bytes:
        data = self._bytes(key, self._key, per_cpu=False)
        if len(data) != self.key_size:
            raise MapError(f"a key of map {self.name} has {self.key_size} bytes, not {len(data)}", errno.EINVAL)
        return data

    def _bytes(self, row: Row, dtype: np.dtype[Any], *, per_cpu: bool) -> bytes:
        if isinstance(row, int):
            row = np.asarray(row, dtype)
        data = row if isinstance(row, bytes) else row.tobytes()
        if per_cpu and len(data) != dtype.itemsize * max(self.cpus, 1):
            if self.cpus and len(data) == dtype.itemsize:
                return data * self.cpus
            if len(data) != self._stride:
                raise MapError(f"a value of map {self.name} has {self.value_size} bytes, not {len(data)}", errno.EINVAL)
        return data

    def _rows(self, rows: Rows, dtype: np.dtype[Any]) -> Array:
        """As contiguous bytes."""
        if isinstance(rows, bytes):
            return np.frombuffer(rows, "u1")
        same = rows.dtype.itemsize == dtype.itemsize or rows.dtype == np.uint8
        return np.ascontiguousarray(rows if same else rows.astype(dtype)).reshape(-1).view("u1")

    def _encode_values(self, data: Array) -> Array:
        """Per-CPU values get their padding; all others are as the kernel wants them."""
        if not self.cpus or self._stride == self.value_size * self.cpus or len(data) % (self.value_size * self.cpus):
            return data
        rows = data.reshape(-1, self.cpus, self.value_size)
        padded = np.zeros((len(rows), self.cpus, self._stride // self.cpus), "u1")
        padded[:, :, : self.value_size] = rows
        return padded.reshape(-1)

    def _decode_values(self, data: Array) -> Array:
        if not self.cpus:
            return np.ascontiguousarray(data).reshape(-1).view(self._value)
        rows = data.reshape(-1, self.cpus, self._stride // self.cpus)[:, :, : self.value_size]
        return np.ascontiguousarray(rows).view(self._value).reshape(-1, self.cpus)

    def _refusal(self, verb: str) -> _Refusal:
        return _Refusal(self, verb)

    def _refused(self, verb: str, number: int, *, done: int = 0) -> MapError:
        if number == errno.E2BIG:
            return MapError(
                f"map {self.name} is full: it has room for {self.max_entries} entries",
                number,
                done=done,
                hint="give it more room in the agent's configuration (maps, conntrack) and restart the agent",
            )
        return MapError(f"cannot {verb} map {self.name}: {os.strerror(number)}", number, done=done)


class _Refusal:
    """Turns an OSError in its block into a MapError."""

    def __init__(self, of: Map, verb: str) -> None:
        self._map, self._verb = of, verb

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(value, OSError):
            raise self._map._refused(self._verb, value.errno or errno.EIO) from value  # noqa: SLF001


def as_row(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A dtype that can be a row's: one that is an array itself becomes a record with the field `items`."""
    return np.dtype([("items", dtype)]) if dtype.subdtype is not None else dtype


def describe(kind: int, key_size: int, value_size: int, max_entries: int, flags: int) -> str:
    """A layout in words."""
    return f"{MapType.label(kind)}, key {key_size}, value {value_size}, {max_entries} entries, flags {flags:#x}"


def total(values: Array) -> Array:
    """Per-CPU values (n, cpus) of integers or records of integers, summed over the CPUs: (n,)."""
    if values.dtype.names is None:
        return np.asarray(values.sum(axis=1, dtype=values.dtype))
    summed = np.zeros(len(values), values.dtype)
    for name in values.dtype.names:
        summed[name] = values[name].sum(axis=1, dtype=values.dtype[name].base)
    return summed
