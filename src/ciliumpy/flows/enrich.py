# SPDX-License-Identifier: Apache-2.0
"""Names for event records, joined when they arrive: an address that is used by somebody else later keeps its past.

Each distinct (address, identity, endpoint) of a block is looked up once; answers are remembered until one of the tables
they came from changes. A local endpoint has its names from its own row, anybody else from ipcache and identities.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import numpy as np

from ciliumpy.flows.columns import Rows, halves, ip_text
from ciliumpy.flows.expand import IPV6, Joined, Side, expand
from ciliumpy.flows.names import Names, Party
from ciliumpy.flows.rules import Rules
from ciliumpy.model.labels import CLUSTER
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.identities import IDENTITIES
from ciliumpy.tables.ipcache import IPCACHE
from ciliumpy.tables.source import PODS

if TYPE_CHECKING:
    from ciliumpy.state.database import Database

CLUSTER_LABEL = f"k8s:{CLUSTER}="

SIDE_KEY: np.dtype[Any] = np.dtype([("hi", "u8"), ("lo", "u8"), ("identity", "u4"), ("endpoint", "u2"), ("ipv6", "u2")])


class Enricher:
    """Turns event records into flow rows with names. Reads the tables: call it in their event loop."""

    def __init__(self, db: Database, names: Names) -> None:
        self.names = names
        self._endpoints = db.table(ENDPOINTS)
        self._ipcache = db.table(IPCACHE)
        self._identities = db.table(IDENTITIES)
        self._pods = db.table(PODS)
        self._sources = (self._endpoints, self._ipcache, self._identities, self._pods)
        self._rules = Rules(db, names)
        self._known: dict[bytes, tuple[int, int, int]] = {}
        self._based_on: tuple[int, ...] = ()

    def rows(self, events: Rows, wall_offset_ns: int) -> Rows:
        """Return the flows of these records, oldest first as they are; `wall_offset_ns` + ktime is wall time."""
        revisions = (*(table.revision for table in self._sources), self.names.generation)
        if revisions != self._based_on:
            self._known.clear()
            self._based_on = revisions
        for ifindex in np.unique(events["ifindex"]).tolist():
            if ifindex not in self.names.interfaces:
                self.names.interfaces[ifindex] = self._interface(ifindex)
        egress_rules, egress_match = self._rules.of(events, "egress")
        ingress_rules, ingress_match = self._rules.of(events, "ingress")
        joined = Joined(
            self._sides(events, "s", "src"),
            self._sides(events, "d", "dst"),
            egress_rules,
            ingress_rules,
            egress_match,
            ingress_match,
        )
        return expand(events, joined, wall_offset_ns)

    def _sides(self, events: Rows, letter: str, side: str) -> Side:
        keys = np.zeros(len(events), SIDE_KEY)
        keys["hi"], keys["lo"] = halves(events[f"{letter}addr"])
        keys["identity"] = events[f"{side}_identity"]
        keys["endpoint"] = events[f"{side}_endpoint"]
        keys["ipv6"] = events["flags"] & IPV6
        distinct, inverse = np.unique(keys.view(f"V{SIDE_KEY.itemsize}"), return_inverse=True)
        found = np.empty((len(distinct), 3), np.uint32)
        for number, (raw, key) in enumerate(zip(distinct, distinct.view(SIDE_KEY).tolist(), strict=True)):
            text = raw.tobytes()
            known = self._known.get(text)
            if known is None:
                known = self._known[text] = self._look_up(*key)
            found[number] = known
        party, identity, endpoint = found[inverse].T
        return Side(party, identity, endpoint)

    def _look_up(self, high: int, low: int, identity: int, endpoint: int, ipv6: int) -> tuple[int, int, int]:
        """Return party, identity and endpoint id. What the datapath said wins; where it said nothing the tables do."""
        address = ip_text(high, low, bool(ipv6))
        # By id first: of a pod that forged its source address, the datapath knows who it is.
        local = self._endpoints.get(endpoint) if endpoint else None
        if local is None:
            local = next((e for e in self._endpoints.by("ip", address) if identity in (0, e.identity)), None)
        if local is not None:
            return self.names.parties.id(self._local(local)), identity or local.identity, local.id
        entry = self._ipcache.get(f"{address}/{128 if ipv6 else 32}")
        if entry is not None:
            identity = identity or entry.identity
        known = self._identities.get(identity)
        labels = known.labels if known is not None else ()
        # If the datapath knew the address as somebody else, the present name of the address is not to be trusted.
        named = entry is not None and entry.identity == identity
        party = Party(
            namespace=entry.namespace if entry is not None and named else "",
            pod=entry.pod if entry is not None and named else "",
            labels=labels,
            cluster=_cluster(labels),
        )
        return self.names.parties.id(party), identity, endpoint

    def _local(self, endpoint: Endpoint) -> Party:
        pod = self._pods.get((endpoint.namespace, endpoint.pod))
        return Party(
            namespace=endpoint.namespace,
            pod=endpoint.pod,
            labels=endpoint.labels,
            cluster=_cluster(endpoint.labels),
            workload_kind=pod.workload_kind if pod is not None else "",
            workload_name=pod.workload_name if pod is not None else "",
        )

    def _interface(self, ifindex: int) -> str:
        for endpoint in self._endpoints.all():
            if endpoint.ifindex == ifindex:
                return endpoint.host_interface
        try:
            return socket.if_indextoname(ifindex)
        except OSError:
            return ""


def _cluster(labels: tuple[str, ...]) -> str:
    return next((label.removeprefix(CLUSTER_LABEL) for label in labels if label.startswith(CLUSTER_LABEL)), "")
