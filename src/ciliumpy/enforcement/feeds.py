# SPDX-License-Identifier: Apache-2.0
"""Carries what changes in the source tables into the policy repository, the vectors and the prefixes that are needed.

A policy that names prefixes counts only when the kernel judges every address in them by their identities: before that
an exception would not be one yet. Until then its former version counts; where there is none, subjects that have no set
yet wait with it, and after a start that is all whom it selects: their former agent's sets hold what it says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.enforcement.pod_ports import PodName, PodPorts
from ciliumpy.enforcement.relabelling import Relabelling
from ciliumpy.model.cidr import canonical, key_of
from ciliumpy.policy.prefixes import named_by, prefix_of
from ciliumpy.policy.repository import PolicyKey, Repository
from ciliumpy.policy.resolve import Service, port_label
from ciliumpy.tables.datapath import KERNEL_ENDPOINTS
from ciliumpy.tables.endpoints import ENDPOINTS
from ciliumpy.tables.identities import CIDR_PREFIXES, IDENTITIES, INSTALLED_PREFIXES, CidrPrefix
from ciliumpy.tables.ipcache import IPCACHE
from ciliumpy.tables.source import CIDR_GROUPS, ENDPOINT_OBJECTS, ENDPOINT_SLICES, PODS, POLICIES, SERVICES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ciliumpy.enforcement.local import Local
    from ciliumpy.enforcement.prefixes import Prefixes
    from ciliumpy.enforcement.vectors import Vectors
    from ciliumpy.state.database import Database
    from ciliumpy.tables.source import Policy


class Changed(NamedTuple):
    """What a round has to do."""

    subjects: set[int]  # local identities to compile
    vectors: set[int]  # identities whose vector is to be written
    policies: set[PolicyKey]  # whose status is open again
    callers: set[int]  # of the subjects, those whose rules want other numbers for named ports
    called: dict[PodName, int]  # pods that may have changed, and the identities of those with named ports; 0: none


class Feeds:
    """The tables that enforcement follows. `breathe` is awaited between short steps."""

    def __init__(
        self,
        db: Database,
        repository: Repository,
        vectors: Vectors,
        local: Local,
        prefixes: Prefixes,
        breathe: Callable[[], Awaitable[None]],
    ) -> None:
        self._db = db
        self._repository, self._vectors, self._local, self._prefixes = repository, vectors, local, prefixes
        self._breathe = breathe
        self._pod_ports = PodPorts()
        self._identity_rows = db.table(IDENTITIES)
        self._installed = db.table(INSTALLED_PREFIXES)
        self.known: dict[PolicyKey, int] = {}
        """All policies there are, and which revision of each was taken over."""
        self._held: dict[PolicyKey, Policy] = {}  # policies whose prefixes are not in force yet
        self._relabelling = Relabelling(db) if "pods" in repository.options.cidr_match_mode else None
        self._coming = Repository(repository.options)  # of them those of which no version is in force
        self._serving: set[tuple[str, str, str]] = set()  # services that policies name
        self._policies = db.table(POLICIES).observe("enforcement")
        self._identities = db.table(IDENTITIES).observe("enforcement")
        self._endpoints = db.table(ENDPOINTS).observe("enforcement")
        self._pods = db.table(PODS).observe("enforcement")
        self._remote = db.table(ENDPOINT_OBJECTS).observe("enforcement")
        self._groups = db.table(CIDR_GROUPS).observe("enforcement")
        self._services = db.table(SERVICES).observe("enforcement")
        self._slices = db.table(ENDPOINT_SLICES).observe("enforcement")
        self._ready = self._installed.observe("enforcement")
        self.observers = (
            self._policies,
            self._identities,
            self._endpoints,
            self._pods,
            self._remote,
            self._groups,
            self._services,
            self._slices,
            self._ready,
        )

    @property
    def held(self) -> int:
        """Policies that wait for their prefixes, or for those of a service that they name."""
        return len(self._held) + sum(map(self._is_served_late, self._repository.serving))

    @property
    def waiting(self) -> bool:
        """Whether there is something to do after a while though nothing changes."""
        return bool(self._pod_ports or self.relabelling)

    @property
    def relabelling(self) -> bool:
        """Whether a policy waits for pods only, of which no table tells when the kernel knows them."""
        return bool(self._relabelling and self._relabelling.late)

    def is_held(self, key: PolicyKey) -> bool:
        return key in self._held or self._is_served_late(key)

    def holds_back(self, identity: int) -> bool:
        """Whether a policy that selects a subject waits for its prefixes, and no version of it is in force.

        Not where an endpoint of this agent goes over to that identity: it has what was in force before.
        """
        slots = self._db.table(KERNEL_ENDPOINTS)
        if any(row.id in slots for row in self._db.table(ENDPOINTS).by("identity", identity)):
            return False
        if self._coming.policies_of(identity):
            return True
        serving = self._repository.serving
        return any(map(self._is_served_late, self._repository.policies_of(identity).intersection(serving)))

    def remove_subject(self, identity: int) -> None:
        """No endpoint here has that identity any more."""
        self._repository.remove_subject(identity)
        self._coming.remove_subject(identity)

    def why_held(self, key: PolicyKey) -> str:
        """What the kernel says against a prefix that a policy waits for; empty: it is on its way."""
        rows = self._db.table(IPCACHE)
        for prefix in sorted(self._prefixes.of(key)):
            if prefix not in self._installed and prefix in rows and rows.status(prefix).state == "error":
                return f"it waits for prefix {prefix}, which the kernel does not take: {rows.status(prefix).error}"
            if self._relabelling and (why := self._relabelling.why(prefix)):
                return why
        return ""

    def _set_subject(self, identity: int, labels: tuple[str, ...]) -> set[int]:
        self._coming.set_subject(identity, labels)
        return self._repository.set_subject(identity, labels)

    def _is_served_late(self, key: PolicyKey) -> bool:
        return any(
            prefix not in self._installed
            for service in self._repository.services_of(key)
            for prefix in self._prefixes.of(("service", service.namespace, service.name))
        )

    async def follow(self) -> Changed:
        """Take everything that has changed."""
        changed = Changed(set(), set(), set(), set(), {})
        named = await self._follow_pods(changed)
        await self._follow_identities(changed, named)
        await self._follow_policies(changed)
        await self._follow_services(changed)
        self._follow_groups()
        self.write_prefixes()
        return changed

    async def _follow_pods(self, changed: Changed) -> set[int]:
        """See which endpoints are here, and which named ports each identity has; the identities of other ports."""
        ports, now_s = self._pod_ports, self._db.clock.monotonic_ns() / 1e9
        named = ports.expire(now_s)
        touched: set[PodName] = set()
        for pod in self._pods.take():
            touched.add((pod.row.namespace, pod.row.name))
            named |= ports.set_pod((pod.row.namespace, pod.row.name), () if pod.deleted else pod.row.ports, now_s)
            await self._breathe()
        for remote in self._remote.take():
            touched.add((remote.row.namespace, remote.row.name))
            identity = 0 if remote.deleted else remote.row.identity
            named |= ports.set_identity((remote.row.namespace, remote.row.name), identity, now_s)
            await self._breathe()
        for change in self._endpoints.take():
            endpoint = change.row
            touched.add((endpoint.namespace, endpoint.pod))
            if change.deleted:
                changed.subjects.update(self._local.remove_endpoint(endpoint.id))
                continue
            changed.subjects.update(self._local.set_endpoint(endpoint))
            if endpoint.identity:
                named |= ports.set_identity((endpoint.namespace, endpoint.pod), endpoint.identity, now_s)
                row = self._identity_rows.get(endpoint.identity)
                if row is not None:
                    changed.subjects.update(self._set_subject(row.id, row.labels))
            await self._breathe()
        for identity in named:
            changed.callers.update(self._repository.set_ports(identity, ports.of(identity)))
            await self._breathe()
        changed.subjects.update(changed.callers)
        changed.called.update((pod, ports.holder(pod)) for pod in touched)
        return named

    async def _follow_identities(self, changed: Changed, named: set[int]) -> None:
        labels: dict[int, tuple[str, ...]] = {}
        for change in self._identities.take():
            identity = change.row.id
            changed.vectors.add(identity)
            if change.deleted:
                self._vectors.remove_identity(identity)
            elif identity in self._local:
                changed.subjects.update(self._set_subject(identity, change.row.labels))
        for identity in changed.vectors | named:
            row = self._identity_rows.get(identity)
            if row is not None:
                ports = self._pod_ports.of(identity)
                labels[identity] = (*row.labels, *(port_label(*port) for port in ports)) if ports else row.labels
                changed.vectors.add(identity)
        for _ in self._vectors.set_identities(labels):
            await self._breathe()

    async def _follow_policies(self, changed: Changed) -> None:
        for change in self._policies.take():
            row = change.row
            key = PolicyKey(row.kind, row.namespace, row.name)
            self._held.pop(key, None)
            if change.deleted:
                self.known.pop(key, None)
                self._prefixes.need(key, ())
                self._prefixes.need(("in force", key), ())
                self._coming.remove_policy(key)
                changed.subjects.update(self._repository.remove_policy(key))
            else:
                self.known[key] = change.revision
                self._prefixes.need(key, named_by(row.rules))
                changed.policies.add(key)
                if self._prefixes.of(key):
                    self._held[key] = row
                    if key not in self._repository.policies:
                        self._coming.set_policy(key, row.rules)
                else:
                    changed.subjects.update(self._put_in_force(key, row))
            await self._breathe()
        if self._ready.take():
            changed.policies.update(self._repository.serving)
        if self._relabelling:
            held = {prefix for key in self._held for prefix in self._prefixes.of(key)}
            await self._relabelling.look(held, self._breathe)
        late = self._relabelling.late if self._relabelling else {}
        for key, row in list(self._held.items()):
            if all(prefix in self._installed and prefix not in late for prefix in self._prefixes.of(key)):
                del self._held[key]
                changed.policies.add(key)
                changed.subjects.update(self._put_in_force(key, row))
                await self._breathe()

    def _put_in_force(self, key: PolicyKey, row: Policy) -> set[int]:
        """From now on subjects are compiled with it. Its prefixes stay while the version after it waits for others."""
        self._prefixes.need(("in force", key), self._prefixes.of(key))
        self._coming.remove_policy(key)
        return self._repository.set_policy(key, row.rules)

    async def _follow_services(self, changed: Changed) -> None:
        touched = {(each.row.namespace, each.row.name) for each in self._services.take()}
        touched |= {(each.row.namespace, each.row.service) for each in self._slices.take()}
        services, slices = self._db.table(SERVICES), self._db.table(ENDPOINT_SLICES)
        for namespace, name in touched:
            row = services.get((namespace, name))
            if row is None:
                changed.subjects.update(self._repository.remove_service(namespace, name))
                continue
            addresses = {a for one in slices.by("service", (namespace, name)) for a in one.addresses}
            # Pods are found by their labels; the addresses are needed only where there is no selector.
            backends = () if row.selector else tuple(sorted(key_of(canonical(address)) for address in addresses))
            changed.subjects.update(
                self._repository.set_service(Service(namespace, name, row.labels, row.selector, backends))
            )
            await self._breathe()
        named = {service for key in self._repository.serving for service in self._repository.services_of(key)}
        needed = {("service", one.namespace, one.name): map(prefix_of, one.backends) for one in named}
        for owner in self._serving - needed.keys():
            self._prefixes.need(owner, ())
        for owner, prefixes in needed.items():
            self._prefixes.need(owner, prefixes)
        self._serving = set(needed)
        if touched:
            changed.policies.update(self._repository.serving)

    def _follow_groups(self) -> None:
        for group in self._groups.take():
            self._prefixes.need(("group", group.row.name), () if group.deleted else group.row.prefixes)

    def write_prefixes(self) -> None:
        """Say which prefixes are needed now."""
        found = self._prefixes.changes()
        if found:
            with self._db.write() as txn:
                for prefix, wanted in found.items():
                    if wanted:
                        txn.upsert(CIDR_PREFIXES, CidrPrefix(prefix))
                    else:
                        txn.delete(CIDR_PREFIXES, prefix)
