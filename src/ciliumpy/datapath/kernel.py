# SPDX-License-Identifier: Apache-2.0
"""What the reconcilers need of the kernel: a protocol that `bpf.maps.Map` and the tests' fake both fulfil."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from ciliumpy.bpf.names import SETTINGS
from ciliumpy.datapath import encode
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    import numpy as np

P = ParamSpec("P")
T = TypeVar("T")

SMALL = 64  # rows that are written on the event loop: some 2 µs each


class KernelMap(Protocol):
    """A typed map. `update` of a full map raises an error whose cause chain has ENOSPC or E2BIG."""

    @property
    def name(self) -> str: ...
    @property
    def max_entries(self) -> int: ...
    @property
    def key_dtype(self) -> np.dtype[Any] | None: ...
    @property
    def value_dtype(self) -> np.dtype[Any] | None: ...

    def lookup_bytes(self, key: bytes) -> bytes | None: ...
    def update(self, key: Any, value: Any, flags: int = 0) -> None: ...
    def delete(self, key: Any) -> bool: ...
    def items(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]: ...
    def update_batch(self, keys: Any, values: Any) -> None: ...


KernelMaps = Mapping[str, KernelMap]


def dump(map_: KernelMap) -> dict[bytes, bytes]:
    """Return all rows as bytes."""
    keys, values = map_.items()
    return dict(zip(_rows(keys), _rows(values), strict=True))


def _rows(array: np.ndarray[Any, Any]) -> list[bytes]:
    data, size = array.tobytes(), array.dtype.itemsize
    return [data[i : i + size] for i in range(0, len(data), size)]


def write(map_: KernelMap, key: bytes, value: bytes) -> str:
    """Write one row; return why it failed, or nothing."""
    try:
        map_.update(key, value)
    except (OSError, CiliumpyError) as error:
        return refusal(map_, error)
    return ""


def refusal(map_: KernelMap, error: BaseException) -> str:
    """Say in a user's words why the kernel did not take a row."""
    if is_full(error):
        setting = SETTINGS.get(map_.name)
        more = f" ({setting} gives it more)" if setting else ""
        return f"map {map_.name} is full: all {map_.max_entries} rows are in use{more}"
    return error.message if isinstance(error, CiliumpyError) else f"map {map_.name}: {error}"


def is_full(error: BaseException | None) -> bool:
    while error is not None:
        if getattr(error, "errno", None) in {errno.ENOSPC, errno.E2BIG}:
            return True
        error = error.__cause__
    return False


def write_all(map_: KernelMap, rows: Mapping[bytes, bytes]) -> dict[bytes, str]:
    """Write rows in one batch; where that fails, one by one. Return why which key failed."""
    if not rows:
        return {}
    try:
        map_.update_batch(b"".join(rows), b"".join(rows.values()))
    except (OSError, CiliumpyError):
        return {key: text for key, value in rows.items() if (text := write(map_, key, value))}
    return {}


def copy_widened(source: KernelMap, target: KernelMap) -> None:
    """Make a wider map hold what the other holds, and nothing else. CiliumpyError: it does not."""
    wanted = {key: encode.widened(source, target, value) for key, value in dump(source).items()}
    for key in dump(target).keys() - wanted.keys():
        target.delete(key)
    errors = write_all(target, wanted)
    if errors or dump(target) != wanted:
        why = next(iter(errors.values()), "it holds something else than was written")
        raise CiliumpyError(f"map {source.name} cannot be copied into {target.name}: {why}")


async def run_sized(size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it here if it is about a few rows, else in a thread: the loop never waits a millisecond for the kernel."""
    if size <= SMALL:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)
