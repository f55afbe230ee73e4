# SPDX-License-Identifier: Apache-2.0
"""Carries endpoints into the kernel: the slot's rows, the program on the device, and only then the device up."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from ciliumpy.datapath import encode
from ciliumpy.datapath.kernel import KernelMaps, dump, write
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from ciliumpy.datapath.epochs import Epochs
    from ciliumpy.datapath.kernel import KernelMap, KernelMaps
    from ciliumpy.state.table import Table
    from ciliumpy.tables.datapath import KernelEndpoint
    from ciliumpy.tables.endpoints import Endpoint


class Doors(Protocol):
    """Where a pod's device is opened and closed: `loader.Datapath` with net/, or the tests' fake."""

    def attach_pod(self, device: str, ifindex: int) -> None: ...
    def detach_pod(self, device: str) -> None: ...
    def attached_pods(self) -> set[str]: ...
    def pod_faults(self, device: str, ifindex: int) -> list[str]: ...
    def prepare_pod_device(self, device: str, ifindex: int) -> int: ...
    def open_pod_device(self, ifindex: int) -> None: ...


class EndpointTarget:
    """`cp_endpoint_v1`, `cp_link_v1`, `cp_local_v1`, the pod's link and the state of its device.

    A row that changes in what its packets depend on gets its endpoint epoch bumped after the last write; before a link
    is deleted the epoch is bumped as well, so that no cached decision outlives it.
    """

    def __init__(self, maps: KernelMaps, epochs: Epochs, doors: Doors, endpoints: Table[Endpoint]) -> None:
        self._slots = maps["cp_endpoint_v1"]
        self._links = maps["cp_link_v1"]
        self._locals = maps["cp_local_v1"]
        self._namespaces = maps["cp_podnet_v1"]
        self._epochs = epochs
        self._doors = doors
        self._endpoints = endpoints
        self._held: dict[int, KernelEndpoint] = {}  # as the kernel has them
        self._prepared: dict[str, int] = {}  # device -> ifindex, of those with programs
        self._numbers: dict[str, int] = {}  # device -> the node's number for its pod's namespace
        self._preparing = threading.Lock()
        self._attacher = ThreadPoolExecutor(1, "attach")
        self._lock = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._foreign = self._read_foreign()

    def in_use(self, set_id: int) -> bool:
        """Tell whether a slot in the kernel names the policy set."""
        return set_id in self._foreign.values() or any(row.policy_set == set_id for row in self._held.values())

    def entries(self) -> dict[str, int]:
        addresses = sum(len(_addresses(row)) for row in self._held.values())
        links = sum(not row.is_host for row in self._held.values())
        return {"cp_endpoint_v1": len(self._held), "cp_link_v1": links, "cp_local_v1": addresses}

    async def update(self, rows: Sequence[KernelEndpoint]) -> Mapping[Hashable, str]:
        async with self._lock:
            # A first time needs netlink and a link; a flip of the set is two map writes.
            first = [row for row in rows if not self._is_open(row)]
            errors = self._flip([row for row in rows if self._is_open(row)])
            if first:
                errors |= await asyncio.to_thread(self._open, first)
            return errors

    async def delete(self, rows: Sequence[KernelEndpoint]) -> Mapping[Hashable, str]:
        async with self._lock:
            errors = await asyncio.to_thread(self._close, rows)
        async with self._changed:
            self._changed.notify_all()
        return errors

    def prepare(self, device: str, ifindex: int) -> asyncio.Future[None]:
        """Begin to put the programs on a pod's device ahead of its rows: until those are there it drops everything.

        Attaching waits for the kernel's readers, one device after another: it goes on beside what makes the rows.
        """
        return asyncio.get_running_loop().run_in_executor(self._attacher, self._prepare, device, ifindex)

    def _prepare(self, device: str, ifindex: int) -> None:
        with self._preparing:  # what has begun beside is waited for, not begun anew
            if self._prepared.get(device) != ifindex:
                self._numbers[device] = self._doors.prepare_pod_device(device, ifindex)
                self._doors.attach_pod(device, ifindex)
                self._prepared[device] = ifindex

    async def abandon(self, device: str) -> None:
        """Take the program off a device that has no rows (any more); one that has none is no error."""
        self._numbers.pop(device, None)
        if self._prepared.pop(device, None) is not None:
            await asyncio.to_thread(self._doors.detach_pod, device)

    async def closed(self, slot: int, generation: int, timeout_s: float = 10.0) -> None:
        """Wait until the kernel has nothing of that endpoint. CiliumpyError: it still has after `timeout_s`."""

        def gone() -> bool:
            held = self._held.get(slot)
            return held is None or held.generation != generation

        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(gone)
        except TimeoutError:
            raise CiliumpyError(f"endpoint {slot} is still in the datapath after {timeout_s:g} s") from None

    async def verify(self, slot: int) -> list[str]:
        """Tell what the kernel has of an endpoint otherwise than it shall; empty: nothing."""
        async with self._lock:
            row = self._held.get(slot)
            if row is None:
                return [f"endpoint {slot} is not in the datapath"]
            return await asyncio.to_thread(self._faults, row)

    def _faults(self, row: KernelEndpoint) -> list[str]:
        found: list[str] = []
        wanted = [(self._slots, encode.u32(row.slot), encode.endpoint_value(self._slots, row))]
        if not row.is_host:
            found += self._doors.pod_faults(row.host_interface, row.ifindex)
            wanted.append((self._links, encode.u32(row.ifindex), encode.u32(row.slot)))
        target = encode.local_target(self._locals, row)
        wanted += [(self._locals, encode.address(address), target) for address in _addresses(row)]
        found += [
            f"{map_.name} has another row for it" for map_, key, value in wanted if map_.lookup_bytes(key) != value
        ]
        return found

    async def prune(self, rows: Sequence[KernelEndpoint]) -> int:
        # A restored endpoint whose set is not there yet has no row: what the former agent wrote for it stays.
        waiting = [row for row in self._endpoints.all() if row.id not in {row.slot for row in rows}]
        async with self._lock:
            return await asyncio.to_thread(self._repair, rows, waiting)

    def _is_open(self, row: KernelEndpoint) -> bool:
        held = self._held.get(row.slot)
        return held is not None and (held.generation, held.ifindex) == (row.generation, row.ifindex)

    def _open(self, rows: Sequence[KernelEndpoint]) -> dict[Hashable, str]:
        errors: dict[Hashable, str] = {}
        for row in rows:
            try:
                text = self._write_slot(row)
                if not text and not row.is_host:
                    self._prepare(row.host_interface, row.ifindex)
                    namespace = self._numbers.get(row.host_interface, -1)
                    self._namespaces.update(encode.u32(row.slot), encode.u32(namespace + 1))
                    text = self._write_addresses(row)
                if not text:
                    self._held[row.slot] = row
                    self._foreign.pop(row.slot, None)
                    self._epochs.bump_endpoints([row.slot])
                    if not row.is_host:
                        self._doors.open_pod_device(row.ifindex)
            except (CiliumpyError, OSError) as error:
                text = error.message if isinstance(error, CiliumpyError) else str(error)
            if text:
                errors[row.slot] = text
        return errors

    def _flip(self, rows: Sequence[KernelEndpoint]) -> dict[Hashable, str]:
        errors: dict[Hashable, str] = {}
        for row in rows:
            text = self._write_slot(row) or self._write_addresses(row)
            if text:
                errors[row.slot] = text
            else:
                self._held[row.slot] = row
        self._epochs.bump_endpoints([row.slot for row in rows])
        return errors

    def _write_slot(self, row: KernelEndpoint) -> str:
        text = write(self._slots, encode.u32(row.slot), encode.endpoint_value(self._slots, row))
        if not text and not row.is_host:
            text = write(self._links, encode.u32(row.ifindex), encode.u32(row.slot))
        return text

    def _write_addresses(self, row: KernelEndpoint) -> str:
        value = encode.local_target(self._locals, row)
        for address in _addresses(row):
            if text := write(self._locals, encode.address(address), value):
                return text
        return ""

    def _close(self, rows: Sequence[KernelEndpoint]) -> dict[Hashable, str]:
        """Not ready, bump, link, rows: until the link is gone its packets are told of as the endpoint's."""
        errors: dict[Hashable, str] = {}
        for row in rows:
            # A row of a later generation may have taken the slot or the device meanwhile.
            held = self._held.get(row.slot)
            ours = held is None or held.generation == row.generation
            if ours:
                self._slots.update(encode.u32(row.slot), encode.endpoint_value(self._slots, row, ready=False))
            self._epochs.bump_endpoints([row.slot])
            try:
                if not row.is_host and not self._is_anothers(row):
                    self._prepared.pop(row.host_interface, None)
                    self._numbers.pop(row.host_interface, None)
                    self._doors.detach_pod(row.host_interface)
            except (CiliumpyError, OSError) as error:
                errors[row.slot] = str(error)
            value = encode.local_target(self._locals, row)
            for address in _addresses(row):
                key = encode.address(address)
                if self._locals.lookup_bytes(key) == value:
                    self._locals.delete(key)
            if self._links.lookup_bytes(encode.u32(row.ifindex)) == encode.u32(row.slot):
                self._links.delete(encode.u32(row.ifindex))
            if ours:
                self._clear_slot(row.slot)
        return errors

    def _is_anothers(self, row: KernelEndpoint) -> bool:
        """Tell whether a later endpoint has a device of that name: the same container, plugged in anew."""
        return any(
            held.host_interface == row.host_interface and held.generation != row.generation
            for held in self._held.values()
        )

    def _clear_slot(self, slot: int) -> None:
        self._held.pop(slot, None)
        self._foreign.pop(slot, None)
        self._namespaces.update(encode.u32(slot), encode.u32(0))
        self._slots.update(encode.u32(slot), bytes(self._size))

    def _repair(self, rows: Sequence[KernelEndpoint], waiting: Sequence[Endpoint]) -> int:
        known = {row.slot for row in rows} | {row.id for row in waiting}
        values = {row.slot: encode.endpoint_value(self._slots, row) for row in rows if self._is_open(row)}
        repairs = 0
        for key, value in dump(self._slots).items():
            slot = int.from_bytes(key, "little")
            good = values.get(slot, value) if slot in known else bytes(len(value))
            if value != good:
                self._slots.update(key, good)
                self._epochs.bump_endpoints([slot])
                repairs += 1
        for slot in self._foreign.keys() - known:
            del self._foreign[slot]
        addresses = {
            encode.address(address): encode.local_target(self._locals, row)
            for row in rows
            for address in _addresses(row)
        }
        links = {encode.u32(row.ifindex): encode.u32(row.slot) for row in rows if not row.is_host}
        wrong = _equalise(self._locals, addresses, {encode.address(a) for row in waiting for a in _addresses(row)})
        wrong += _equalise(self._links, links, {encode.u32(row.ifindex) for row in waiting})
        if wrong:  # it may have led packets to another pod
            self._epochs.bump_global()
        devices = {row.host_interface for row in rows} | {row.host_interface for row in waiting}
        for device in self._doors.attached_pods() - devices:
            self._doors.detach_pod(device)
            repairs += 1
        return repairs + wrong

    def _read_foreign(self) -> dict[int, int]:
        """Return slot -> policy set of what a former agent left, until it is ours."""
        keys, values = self._slots.items()
        self._size = values.dtype.itemsize
        found = values["generation"] != 0
        return dict(zip(keys[found].tolist(), values["policy_set"][found].tolist(), strict=True))


def _addresses(row: KernelEndpoint | Endpoint) -> list[str]:
    return [address for address in (row.ipv4, row.ipv6) if address]


def _equalise(map_: KernelMap, wanted: Mapping[bytes, bytes], keep: set[bytes]) -> int:
    """Make a map hold `wanted`, and leave the keys in `keep` alone; return how many rows differed."""
    present = dump(map_)
    repairs = 0
    for key in present.keys() - wanted.keys() - keep:
        map_.delete(key)
        repairs += 1
    for key, value in wanted.items():
        if present.get(key) != value:
            write(map_, key, value)
            repairs += 1
    return repairs
