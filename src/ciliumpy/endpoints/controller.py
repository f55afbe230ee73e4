# SPDX-License-Identifier: Apache-2.0
"""Endpoints come and go by ADD and DEL, and follow the labels of their pods. The one writer of their table."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from ciliumpy.endpoints import allocate
from ciliumpy.endpoints.attachment import DiffersError, UnknownContainerError, addresses_of, differences
from ciliumpy.endpoints.labelling import Labelling
from ciliumpy.endpoints.newcomers import Newcomers
from ciliumpy.endpoints.options import judged
from ciliumpy.endpoints.records import Record, Records
from ciliumpy.endpoints.state import READY, RESTORING, WAITING_FOR_IDENTITY, shown_state
from ciliumpy.endpoints.threads import whole
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.datapath import KERNEL_ENDPOINTS, ROUTES
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.identities import IDENTITIES, IDENTITY_REQUESTS, IdentityRequest
from ciliumpy.tables.ipcache import IPCACHE
from ciliumpy.tables.source import NAMESPACES, PODS

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from ciliumpy.endpoints.attachment import Pair, Previous, Request
    from ciliumpy.endpoints.plug import Plug
    from ciliumpy.kit.clock import Clock
    from ciliumpy.state.database import Database, WriteTransaction
    from ciliumpy.state.observer import Observer

READY_WAIT_S = 20.0  # a hundred at once wait for each other

_log = logging.getLogger(__name__)


class AddressPool(Protocol):
    def allocate(self) -> str: ...
    def take(self, text: str) -> None: ...
    def release(self, text: str) -> None: ...


class Datapath(Protocol):
    """What the datapath does for an endpoint that is not done by its rows."""

    def prepare(self, device: str, ifindex: int) -> asyncio.Future[None]:
        """Begin to put the programs on a device; it stays closed until its rows are there."""

    async def abandon(self, device: str) -> None:
        """Take them off, if they are still on."""

    async def closed(self, slot: int, generation: int) -> None:
        """Return when it has let go of an endpoint."""

    async def verify(self, slot: int) -> list[str]:
        """Tell what it has of an endpoint otherwise than it shall."""


class Endpoints:
    """Plugs pods in and out.

    `pools` has a pool a family. A pool, the slots and the records are touched on the event loop only.
    """

    def __init__(
        self,
        db: Database,
        records: Records,
        pools: Mapping[str, AddressPool],
        plug: Plug,
        datapath: Datapath,
        *,
        clock: Clock,
        labelling: Labelling | None = None,
        grace_s: float = 0.0,
    ) -> None:
        self._db = db
        self._labelling = labelling or Labelling(db)
        self._newcomers = Newcomers(clock, grace_s)
        self._table = db.table(ENDPOINTS)
        self._pods = db.table(PODS)
        self._records = records
        self._pools = pools
        self._plug = plug
        self._datapath = datapath
        self._clock = clock
        self._slots = allocate.Slots()
        self._busy: set[tuple[str, str]] = set()
        self._kept: dict[int, Record] = {}

    # ---- restart -----------------------------------------------------------------------------------------------------

    async def restore(self) -> int:
        """Take over the endpoints of a former agent whose devices are still there; return how many.

        They keep number, generation, addresses and identity. What is left of the others is removed.
        """
        devices = await asyncio.to_thread(self._plug.devices)
        kept: list[Endpoint] = []
        for record in await asyncio.to_thread(self._records.load):
            endpoint = record.endpoint
            if endpoint.ifindex and devices.get(endpoint.host_interface) == endpoint.ifindex:
                kept.append(msgspec.structs.replace(endpoint, state=RESTORING, error=""))
                self._kept[endpoint.id] = record
                self._slots.restore(endpoint.id, endpoint.generation)
                for pool, address in self._pooled(endpoint):
                    pool.take(address)
                continue
            _log.warning("endpoint %d (%s/%s) is gone", endpoint.id, endpoint.namespace, endpoint.pod)
            if not endpoint.ifindex:
                await asyncio.to_thread(self._plug.remove, endpoint.host_interface)
            self._records.remove(endpoint.id)
        with self._db.write() as txn:
            for endpoint in kept:
                txn.upsert(ENDPOINTS, endpoint)
                txn.upsert(IDENTITY_REQUESTS, IdentityRequest(endpoint.labels))
        return len(kept)

    # ---- ADD and DEL -------------------------------------------------------------------------------------------------

    async def add(self, request: Request, netns_fd: int, previous: Previous | None = None) -> Endpoint:
        """Plug a pod in and return its endpoint when packets may flow. CiliumpyError, and nothing is left.

        With the result of `previous` plugins, their interface and addresses are taken over. A second ADD for the same
        container and interface returns the endpoint there is, if its device is intact.
        """
        with self._alone(request.container_id, request.interface):
            present = self._find(request.container_id, request.interface)
            if present is not None:
                if not await asyncio.to_thread(self._plug.is_intact, present):
                    raise CiliumpyError(
                        f"container {request.container_id} has endpoint {present.id}, but its device"
                        f" {present.host_interface} is not what it was",
                        "delete it (CNI DEL) and add it anew",
                    )
                return present
            labels = await self._labelling.wait(request.namespace, request.pod)
            if previous is None:
                return await self._create(request, self._allocate(request, labels), netns_fd)
            found = await asyncio.to_thread(self._plug.find, request.interface, netns_fd)
            return await self._create(request, self._take_over(request, labels, found, previous), netns_fd)

    async def check(self, container_id: str, interface: str, netns_fd: int, previous: Previous) -> None:
        """Compare an attachment with its result, its row, and what the datapath shall have of it. DiffersError."""
        with self._alone(container_id, interface):
            endpoint = self._find(container_id, interface)
            if endpoint is None:
                raise UnknownContainerError(f"container {container_id} has no endpoint with interface {interface}")
            seen = await asyncio.to_thread(self._plug.inspect, endpoint, netns_fd)
            found = list(differences(endpoint, previous, seen))
            state, error = shown_state(self._db, endpoint)
            if state != READY:
                found.append(f"endpoint {endpoint.id} is {state}{f': {error}' if error else ''}")
            found += await self._datapath.verify(endpoint.id)
        if found:
            raise DiffersError(f"container {container_id} is not as it was plugged in: {found[0]}", "; ".join(found))

    async def remove(self, container_id: str, interface: str) -> bool:
        """Plug a pod out; return False if it is unknown."""
        with self._alone(container_id, interface):
            endpoint = self._find(container_id, interface)
            if endpoint is None:
                return False
            await self._destroy(endpoint)
            return True

    async def collect(self, network: str, keep: Container[tuple[str, str]]) -> int:
        """Remove the endpoints of a network whose (container, interface) is not to be kept; return how many.

        One that is being plugged in or out when this begins is left alone, and so is one that comes meanwhile: who asks
        could not know of it. CiliumpyError names those that could not be removed.
        """
        removed, failed, gone = 0, [], []
        for endpoint in self._table.all():
            key, record = (endpoint.container_id, endpoint.interface), self._kept.get(endpoint.id)
            if key not in keep and key not in self._busy and record is not None and record.network == network:
                gone.append((key, endpoint.generation))
        for key, generation in gone:
            present = self._find(*key)
            if present is None or present.generation != generation or key in self._busy:
                continue
            try:
                removed += await self.remove(*key)
            except CiliumpyError as error:
                failed.append(f"{key[0]} {key[1]}: {error.message}")
        if failed:
            raise CiliumpyError(f"{len(failed)} attachments cannot be removed", "; ".join(failed))
        return removed

    @contextlib.contextmanager
    def _alone(self, container_id: str, interface: str) -> Iterator[None]:
        key = (container_id, interface)
        if key in self._busy:
            raise CiliumpyError(f"container {container_id} is being plugged in or out already", "try again")
        self._busy.add(key)
        try:
            yield
        finally:
            self._busy.discard(key)

    async def _create(self, request: Request, endpoint: Endpoint, netns_fd: int) -> Endpoint:
        beside: list[asyncio.Future[None]] = []
        endpoint = msgspec.structs.replace(endpoint, labels=self._labelling.with_prefixes(endpoint.labels, endpoint))
        try:
            record = self._kept[endpoint.id] = Record(endpoint, request.netns, request.uid, request.network)
            if endpoint.chained:
                await whole(self._records.save, record)
            else:
                ifindex, peer_ifindex = await whole(self._make, record, netns_fd)
                endpoint = msgspec.structs.replace(endpoint, ifindex=ifindex, peer_ifindex=peer_ifindex)
                # The pod's side, and the programs, take as long as identity, policy and rows: all at once.
                loop = asyncio.get_running_loop()
                beside.append(loop.run_in_executor(None, self._plug.fill, endpoint, netns_fd))
            beside.append(self._datapath.prepare(endpoint.host_interface, endpoint.ifindex))
            with self._db.write() as txn:
                self._place(txn, endpoint)
            await self._remember([endpoint.id])
            await self._ready(endpoint)
            for each in beside:
                await asyncio.shield(each)
        except BaseException:
            await asyncio.gather(*beside, return_exceptions=True)
            await self._destroy(endpoint)
            raise
        return self._table.get(endpoint.id) or endpoint

    def _make(self, record: Record, netns_fd: int) -> tuple[int, int]:
        """Make the devices. The record comes first: what is made is found, and removed, by the next agent."""
        self._records.save(record)
        return self._plug.create(record.endpoint, netns_fd)

    def _allocate(self, request: Request, labels: tuple[str, ...]) -> Endpoint:
        slot, generation = self._number()
        addresses: dict[str, str] = {}
        try:
            for family, pool in self._pools.items():
                addresses[family] = pool.allocate()
        except CiliumpyError:
            for family, address in addresses.items():
                self._pools[family].release(address)
            raise
        mac, host_mac = allocate.macs(request.container_id, request.interface, generation)
        return Endpoint(
            id=slot,
            generation=generation,
            namespace=request.namespace,
            pod=request.pod,
            container_id=request.container_id,
            interface=request.interface,
            host_interface=allocate.host_interface(request.container_id, request.interface),
            ifindex=0,
            peer_ifindex=0,
            mac=mac,
            host_mac=host_mac,
            ipv4=addresses.get("ipv4", ""),
            ipv6=addresses.get("ipv6", ""),
            labels=labels,
            state=WAITING_FOR_IDENTITY,
        )

    def _take_over(self, request: Request, labels: tuple[str, ...], found: Pair, previous: Previous) -> Endpoint:
        """Return an endpoint of another plugin's interface. CiliumpyError: the address is somebody's here."""
        ipv4, ipv6 = addresses_of(previous)
        for address in filter(None, (ipv4, ipv6)):
            if self._table.by("ip", address):
                raise CiliumpyError(f"address {address} belongs to another endpoint of this node")
        slot, generation = self._number()
        endpoint = Endpoint(
            id=slot,
            generation=generation,
            namespace=request.namespace,
            pod=request.pod,
            container_id=request.container_id,
            interface=request.interface,
            ipv4=ipv4,
            ipv6=ipv6,
            labels=labels,
            state=WAITING_FOR_IDENTITY,
            chained=True,
            **found._asdict(),
        )
        for pool, address in self._pooled(endpoint):
            pool.take(address)
        return endpoint

    def _number(self) -> tuple[int, int]:
        used = {row.id for row in self._table.all()} | self._kept.keys()
        return self._slots.allocate(used, self._clock.monotonic_ns())

    async def _destroy(self, endpoint: Endpoint) -> None:
        """Take it out of the datapath first, then remove its devices, then give its numbers back."""
        held = endpoint.id in self._db.table(KERNEL_ENDPOINTS)
        with self._db.write() as txn:
            txn.delete(ENDPOINTS, endpoint.id)
            self._forget_request(txn, endpoint.labels)
        if held:
            await self._datapath.closed(endpoint.id, endpoint.generation)
        await self._datapath.abandon(endpoint.host_interface)
        if not endpoint.chained:
            await asyncio.to_thread(self._plug.remove, endpoint.host_interface)
        for pool, address in self._pooled(endpoint):
            pool.release(address)
        self._kept.pop(endpoint.id, None)
        self._records.remove(endpoint.id)

    async def _ready(self, endpoint: Endpoint) -> None:
        """Wait until policy set, link, rows and ipcache are done. CiliumpyError: what failed, or is still missing."""
        loop = asyncio.get_running_loop()
        until = loop.time() + READY_WAIT_S
        kernel, ipcache = self._db.table(KERNEL_ENDPOINTS), self._db.table(IPCACHE)
        observers: list[Observer[Any]] = [t.observe("add") for t in (self._table, kernel, ipcache)]
        prefixes = [f"{a}/{128 if ':' in a else 32}" for a in _addresses(endpoint)]
        try:
            while endpoint.id not in kernel or any(prefix not in ipcache for prefix in prefixes):
                if loop.time() >= until:
                    raise CiliumpyError(
                        f"endpoint {endpoint.id} is not ready after {READY_WAIT_S:g} s: {self._why(endpoint.id)}"
                    )
                if error := self._refused(endpoint):
                    raise CiliumpyError(f"endpoint {endpoint.id} has no identity: {error}")
                for observer in observers:
                    observer.take()
                # A status wakes nobody: look again a little later.
                await wait_any(*observers, timeout_s=min(1.0, until - loop.time()))
        finally:
            for observer in observers:
                observer.close()
        await kernel.wait_done(endpoint.id, max(0.0, until - loop.time()))
        for prefix in prefixes:
            await ipcache.wait_done(prefix, max(0.0, until - loop.time()))
        if endpoint.chained:
            await self._routed(prefixes, until)

    async def _routed(self, prefixes: Iterable[str], until: float) -> None:
        """Wait for the node's own way to an address that no pod CIDR covers."""
        loop, routes = asyncio.get_running_loop(), self._db.table(ROUTES)
        observer = routes.observe("add")
        try:
            for prefix in prefixes:
                while prefix not in routes and loop.time() < until:
                    observer.take()
                    await wait_any(observer, timeout_s=until - loop.time())
                await routes.wait_done(prefix, max(0.0, until - loop.time()))
        finally:
            observer.close()

    # ---- options -----------------------------------------------------------------------------------------------------

    async def configure(self, number: int, *, audit: bool | None) -> Endpoint:
        """Put an endpoint in audit mode or take it out of it (None: as the agent is), for this agent and the next.

        Return when packets are judged so. CiliumpyError: there is no such endpoint, or it cannot be kept or done.
        """
        row = self._table.get(number)
        if row is None:
            raise CiliumpyError(f"there is no endpoint {number}", "`ciliumpy endpoint list` shows them")
        with self._db.write() as txn:
            txn.upsert(ENDPOINTS, msgspec.structs.replace(row, audit=audit))
        if row.is_host:
            await whole(self._records.save_host, audit=audit)
        await self._remember([number])
        if number in self._db.table(KERNEL_ENDPOINTS):
            await judged(self._db, number)
        return self._table.get(number) or row

    # ---- labels and identity -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Job: follow the labels of pods and namespaces, and the numbers of label sets."""
        pods, namespaces = self._pods.observe("endpoints"), self._db.table(NAMESPACES).observe("endpoints")
        identities = self._db.table(IDENTITIES).observe("endpoints")
        try:
            while True:
                affected: dict[int, Endpoint] = {}
                for pod in pods.take():
                    if not pod.deleted:
                        affected |= _by_id(self._table.by("pod", (pod.row.namespace, pod.row.name)))
                named = {change.row.name for change in namespaces.take()}
                if named:
                    affected |= _by_id(row for row in self._table.all() if row.namespace in named)
                for labels in self._newcomers.follow(change.row for change in identities.take()):
                    affected |= _by_id(self._table.by("labels", labels))
                with self._db.write() as txn:
                    changed = [row.id for row in affected.values() if self._follow(txn, row)]
                await self._remember(changed)
                await wait_any(pods, namespaces, identities, timeout_s=self._newcomers.wait_s())
        finally:
            for observer in (pods, namespaces, identities):
                observer.close()

    async def relabel(self) -> None:
        """See again which labels every endpoint has."""
        with self._db.write() as txn:
            changed = [row.id for row in self._table.all() if self._follow(txn, row)]
        await self._remember(changed)

    def _follow(self, txn: WriteTransaction, row: Endpoint) -> bool:
        if row.is_host:
            return False
        pod = txn.get(PODS, (row.namespace, row.pod))
        labels = row.labels if pod is None else self._labelling.labels(pod, row)
        changed = self._place(txn, msgspec.structs.replace(row, labels=labels))
        if labels != row.labels:
            self._forget_request(txn, row.labels)
        return changed

    async def _remember(self, numbers: Iterable[int]) -> None:
        """Write the records of endpoints as they are now."""
        records = []
        for number in numbers:
            row, record = self._table.get(number), self._kept.get(number)
            if row is not None and record is not None and row.generation == record.endpoint.generation:
                records.append(msgspec.structs.replace(record, endpoint=row))
                self._kept[number] = records[-1]
        if records:
            await whole(self._records.save_all, records)

    def _place(self, txn: WriteTransaction, row: Endpoint) -> bool:
        """Write the row with its pod's ports and the identity of its labels: the former one until there is one."""
        if pod := txn.get(PODS, (row.namespace, row.pod)):
            row = msgspec.structs.replace(row, named_ports=pod.ports)
        txn.upsert(IDENTITY_REQUESTS, IdentityRequest(row.labels))
        found = txn.by(IDENTITIES, "labels", row.labels)
        if found and not self._newcomers.blocks(found[0].id, row.identity):
            row = msgspec.structs.replace(row, identity=found[0].id, state="ready")
        return txn.upsert(ENDPOINTS, row)

    @staticmethod
    def _forget_request(txn: WriteTransaction, labels: tuple[str, ...]) -> None:
        if not any(row.labels == labels for row in txn.all(ENDPOINTS)):
            txn.delete(IDENTITY_REQUESTS, labels)

    # ---- small things ------------------------------------------------------------------------------------------------

    def _refused(self, endpoint: Endpoint) -> str:
        """Why its labels get no identity; empty: they have one, or it is on its way."""
        requests = self._db.table(IDENTITY_REQUESTS)
        if endpoint.labels not in requests or self._db.table(IDENTITIES).by("labels", endpoint.labels):
            return ""
        return requests.status(endpoint.labels).error

    def _why(self, number: int) -> str:
        row = self._table.get(number)
        if row is None or not row.identity:
            return "its labels have no identity yet (is the store reachable?)"
        _, error = shown_state(self._db, row)
        return error or "its policy or its addresses are not in the datapath"

    def _find(self, container_id: str, interface: str) -> Endpoint | None:
        return next(iter(self._table.by("container", (container_id, interface))), None)

    def _pooled(self, endpoint: Endpoint) -> Iterator[tuple[AddressPool, str]]:
        """The endpoint's addresses with their pools. One restored may have a family that is switched off now."""
        for address in _addresses(endpoint):
            pool = self._pools.get("ipv6" if ":" in address else "ipv4")
            if pool is not None:
                yield pool, address


def _addresses(endpoint: Endpoint) -> list[str]:
    return [address for address in (endpoint.ipv4, endpoint.ipv6) if address]


def _by_id(rows: Iterable[Endpoint]) -> dict[int, Endpoint]:
    return {row.id: row for row in rows}
