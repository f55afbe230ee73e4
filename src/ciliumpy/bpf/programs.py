# SPDX-License-Identifier: Apache-2.0
"""Objects loaded into the kernel: their programs and maps.

`load_object` sets constants and sizes, takes the maps that are pinned already, creates and pins the others, and loads
every program; nothing stays pinned if it fails. What it returns owns its descriptors and needs libbpf no more.
"""

from __future__ import annotations

import ctypes
import os
import re
from typing import TYPE_CHECKING, NamedTuple, Self

from ciliumpy.bpf import sys
from ciliumpy.bpf.btf import DATASEC, Btf
from ciliumpy.bpf.libbpf import LoadError, Object, ObjectMap
from ciliumpy.bpf.maps import Map, as_row, describe
from ciliumpy.bpf.sys import MapType
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

RING_BYTES = 1 << 20
RING_NAME = "cp_ring_v1"
_LOG_LINES = 12


class RunResult(NamedTuple):
    """`retval` is signed (TC_ACT_UNSPEC is -1), `data` the packet as the program left it, `duration_ns` a mean."""

    retval: int
    data: bytes
    duration_ns: int
    ctx: bytes


class Program:
    """A loaded program; it owns `fd`."""

    def __init__(self, fd: int, name: str = "") -> None:
        self.fd = fd
        self.info = info = sys.program_info(fd)
        self.name, self.id = name or info.name, info.id

    @property
    def instructions(self) -> int:
        """What the verifier walked to prove it."""
        return self.info.verified

    @property
    def size(self) -> int:
        """Its instructions in the kernel."""
        return self.info.xlated_bytes // 8

    def test_run(
        self, data: bytes, *, repeat: int = 1, ctx: bytes | None = None, data_out_size: int | None = None
    ) -> RunResult:
        """Run it on a packet. `ctx` is a struct __sk_buff (or xdp_md); repetitions see the same, changed, packet."""
        room = len(data) + 512 if data_out_size is None else data_out_size
        data_out, ctx_out = bytearray(room), bytearray(len(ctx or b""))
        try:
            run = sys.program_test_run(
                self.fd,
                data_in=sys.address(data),
                data_in_size=len(data),
                data_out=sys.address(data_out),
                data_out_size=room,
                ctx_in=sys.address(ctx) if ctx else 0,
                ctx_in_size=len(ctx or b""),
                ctx_out=sys.address(ctx_out),
                ctx_out_size=len(ctx_out),
                repeat=repeat,
            )
        except OSError as error:
            raise CiliumpyError(f"test run of program {self.name}: {os.strerror(error.errno or 0)}") from error
        retval = run.retval - (1 << 32) if run.retval >> 31 else run.retval
        return RunResult(retval, bytes(data_out[: run.data_size]), run.duration_ns, bytes(ctx_out[: run.ctx_size]))

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Collection:
    """What `load_object` loaded: `maps` and `programs` by name, `btf` of the object. It owns their descriptors."""

    def __init__(self, path: Path, maps: dict[str, Map], programs: dict[str, Program], btf: Btf) -> None:
        self.path, self.maps, self.programs, self.btf = path, maps, programs, btf

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for program in self.programs.values():
            program.close()
        for one in self.maps.values():
            one.close()


def load_object(
    path: Path,
    *,
    rodata: Mapping[str, int | bytes] = {},
    max_entries: Mapping[str, int] = {},
    pin_dir: Path | None = None,
    ring_size: int = RING_BYTES,
) -> Collection:
    """Load a compiled object. With `pin_dir` (in a bpffs) its maps are shared through it, without it nothing is pinned.

    `rodata` sets `const volatile` globals, `max_entries` sizes of maps, `ring_size` the bytes of each inner ring of an
    array of rings. Errors: a constant or map that is not in the object, a pinned map of another layout, a program that
    the verifier refuses.
    """
    with Object(path) as opened:
        btf = Btf(opened.btf_data())
        _set_constants(opened, btf, rodata)
        _set_sizes(opened, max_entries)
        shared = [one for one in opened.maps if not one.internal]
        reused = _reuse(shared, btf, pin_dir) if pin_dir else set()
        with Map.create(MapType.RINGBUF, 0, 0, ring_size, name=RING_NAME) as template:  # only its kind is kept
            for one in shared:
                if one.type in sys.MAP_OF_MAPS_TYPES and one.name not in reused:
                    one.set_inner_map(template.fd)
            try:
                opened.load()
            except LoadError as error:
                raise _refusal(path, error) from error
        maps = {one.name: Map.from_fd(os.dup(one.fd), btf) for one in opened.maps if one.fd >= 0}
        programs = {one.name: Program(os.dup(one.fd), one.name) for one in opened.programs if one.fd >= 0}
    collection = Collection(path, maps, programs, btf)
    try:
        for one in shared:
            if one.type in sys.MAP_OF_MAPS_TYPES:
                fill_rings(maps[one.name], ring_size)
        if pin_dir:
            _pin([maps[one.name] for one in shared if one.name not in reused], pin_dir)
    except BaseException:
        collection.close()
        raise
    return collection


def fill_rings(outer: Map, ring_size: int) -> None:
    """Give each slot of an array of rings that a CPU can reach its ring, if it has none yet."""
    for index in range(min(outer.max_entries, sys.possible_cpus())):
        key = index.to_bytes(4, "little")
        if outer.lookup_bytes(key) is None:
            with Map.create(MapType.RINGBUF, 0, 0, ring_size, name=RING_NAME) as ring:
                outer.update(key, ring.fd.to_bytes(4, "little"))


def _set_constants(opened: Object, btf: Btf, rodata: Mapping[str, int | bytes]) -> None:
    if not rodata:
        return
    sections = [one for one in opened.maps if one.internal and one.name.endswith(".rodata")]
    known = {one.name: one for one in btf.members(btf.find(".rodata", (DATASEC,)))} if sections else {}
    for name, value in rodata.items():
        if name not in known:
            raise CiliumpyError(
                f"{opened.path.name} has no constant {name!r}", hint=f"it has: {', '.join(sorted(known))}"
            )
        size = btf.size(known[name].type)
        where = f"constant {name!r} of {opened.path.name} has {size} bytes"
        try:
            data = value if isinstance(value, bytes) else value.to_bytes(size, "little", signed=value < 0)
        except OverflowError as error:
            raise CiliumpyError(f"{where}: {value!r} does not fit") from error
        if len(data) != size:
            raise CiliumpyError(f"{where}, not {len(data)}")
        ctypes.memmove(ctypes.addressof(sections[0].initial_value()) + known[name].offset, data, size)


def _set_sizes(opened: Object, max_entries: Mapping[str, int]) -> None:
    known = {one.name: one for one in opened.maps}
    for name, entries in max_entries.items():
        if name not in known:
            raise CiliumpyError(f"{opened.path.name} has no map {name!r}", hint=f"it has: {', '.join(sorted(known))}")
        known[name].set_max_entries(entries)


def _reuse(shared: list[ObjectMap], btf: Btf, pin_dir: Path) -> set[str]:
    """Take the maps pinned already; the names taken."""
    reused = set()
    for one in shared:
        path = pin_dir / one.name
        if not path.exists():
            continue
        with Map.open_pinned(path) as pinned:
            if difference := _difference(one, btf, pinned):
                raise CiliumpyError(
                    f"map {path} has another layout: {difference}",
                    hint="stop the agent, remove the pinned map and start again; what it held is built anew",
                )
            one.reuse(pinned.fd)
            reused.add(one.name)
    return reused


def _difference(wanted: ObjectMap, btf: Btf, pinned: Map) -> str:
    """Why a pinned map cannot serve, or nothing. Names and offsets of fields count as well as sizes."""
    layout = describe(wanted.type, wanted.key_size, wanted.value_size, wanted.max_entries, wanted.flags)
    if pinned.layout != layout:
        return f"pinned is {pinned.layout}; needed is {layout}"
    for type_id, known in ((wanted.key_type, pinned.key_dtype), (wanted.value_type, pinned.value_dtype)):
        if type_id and known is not None and as_row(btf.dtype(type_id)) != known:
            return f"its struct {btf.types[btf.strip(type_id)].name} has changed"
    return ""


def _pin(maps: list[Map], pin_dir: Path) -> None:
    """All or none."""
    pin_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    done: list[Path] = []
    try:
        for one in maps:
            one.pin(pin_dir / one.name)
            done.append(pin_dir / one.name)
    except BaseException:
        for path in done:
            path.unlink(missing_ok=True)
        raise


def _refusal(path: Path, error: LoadError) -> CiliumpyError:
    """One readable error: which program, the verifier's decisive words, what to do."""
    said = " ".join(error.messages)
    found = re.search(r"prog '([^']+)': BPF program load failed", said)
    if not found:
        return CiliumpyError(
            f"cannot load {path.name}: {os.strerror(error.errno)}"
            + "".join(f"\n    {line}" for line in error.messages[-4:]),
            hint="`ciliumpy preflight` says what this kernel lacks",
        )
    lines = decisive_lines(error.log)
    reason = "".join(f"\n    {line}" for line in lines) or f" {os.strerror(error.errno)}"
    return CiliumpyError(
        f"the kernel's verifier refused program {found[1]!r} of {path.name}:{reason}",
        hint="this kernel checks more strictly than those the objects are tested on: report it with its version",
    )


def decisive_lines(log: str, limit: int = _LOG_LINES) -> list[str]:
    """The end of a verifier log without its statistics and register states: the last steps, then the reason."""
    lines = [line.rstrip() for line in log.splitlines()]
    noise = re.compile(r"^(processed \d+ insns|verification time|stack depth|; +@ |$)")
    kept = [re.sub(r"\s+; R\d.*$", "", line) for line in lines if not noise.match(line)]
    return kept[-limit:]
