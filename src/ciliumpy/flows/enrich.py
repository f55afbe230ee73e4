# SPDX-License-Identifier: Apache-2.0
"""Names for event records, joined when they arrive: an address that is used by somebody else later keeps its past.

Each distinct (address, identity, endpoint) is looked up once; answers are remembered (memo.py) until one of the tables
they came from changes. Nothing is done for each record by itself. A local endpoint has its names from its own row,
anybody else from ipcache and identities.
"""

from __future__ import annotations

import functools
import socket
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from ciliumpy.flows.columns import Column, Rows, ip_text
from ciliumpy.flows.expand import IPV6, Batch, Joined, Side
from ciliumpy.flows.memo import Memo
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
        self._known = Memo(3, 3, self._side)
        self._seen_interfaces = Memo(1, 1, self._see_interface)
        self._based_on: tuple[int, ...] = ()

    def rows(self, events: Rows, wall_offset_ns: int) -> Rows:
        """Return the flows of these records, oldest first as they are; `wall_offset_ns` + ktime is wall time."""
        return self.batch(events, wall_offset_ns).expand()

    def batch(self, events: Rows, wall_offset_ns: int) -> Batch:
        """Return these records with the names that are true now. The records have to stay as they are."""
        revisions = (*(table.revision for table in self._sources), self.names.generation)
        if revisions != self._based_on:
            self._known.clear()
            self._based_on = revisions
        raw = events.view(_raw(events.dtype))
        self._seen_interfaces.of(events["ifindex"].astype(np.uint64))
        family = (events["flags"] & IPV6).astype(np.uint64) << np.uint64(48)
        egress_rules, egress_match = self._rules.of(raw["egress"], "egress")
        ingress_rules, ingress_match = self._rules.of(raw["ingress"], "ingress")
        joined = Joined(
            self._sides(raw, "s", events["src_identity"], events["src_endpoint"], family),
            self._sides(raw, "d", events["dst_identity"], events["dst_endpoint"], family),
            egress_rules,
            ingress_rules,
            egress_match,
            ingress_match,
        )
        return Batch(events, joined, wall_offset_ns)

    def _sides(self, raw: Rows, letter: str, identities: Column, endpoints: Column, family: Column) -> Side:
        who = identities | endpoints.astype(np.uint64) << np.uint64(32) | family
        answers = self._known.of(raw[f"{letter}0"], raw[f"{letter}1"], who)
        return Side(answers[:, 0], answers[:, 1], answers[:, 2])

    def _side(self, first: int, second: int, who: int) -> tuple[int, int, int]:
        """Look up one end; `first` and `second` are the address, as words in the memory's order."""
        high, low = (int.from_bytes(word.to_bytes(8, sys.byteorder)) for word in (first, second))
        return self._look_up(high, low, who & 0xFFFFFFFF, who >> 32 & 0xFFFF, who >> 48)

    def _see_interface(self, ifindex: int) -> tuple[int]:
        if ifindex not in self.names.interfaces:
            self.names.interfaces[ifindex] = self._interface(ifindex)
        return (0,)

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


@functools.cache
def _raw(event: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype that sees addresses and rule references of struct event as whole words."""
    fields: Any = event.fields
    places = {name: fields[name][1] for name in ("saddr", "daddr", "egress", "ingress")}
    offsets = {
        "s0": places["saddr"],
        "s1": places["saddr"] + 8,
        "d0": places["daddr"],
        "d1": places["daddr"] + 8,
        "egress": places["egress"],
        "ingress": places["ingress"],
    }
    return np.dtype(
        {
            "names": list(offsets),
            "formats": ["u8"] * len(offsets),
            "offsets": list(offsets.values()),
            "itemsize": event.itemsize,
        }
    )


def _cluster(labels: tuple[str, ...]) -> str:
    return next((label.removeprefix(CLUSTER_LABEL) for label in labels if label.startswith(CLUSTER_LABEL)), "")
