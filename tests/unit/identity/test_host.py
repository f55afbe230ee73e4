# SPDX-License-Identifier: Apache-2.0
"""The host's identity has the node's labels, and the host endpoint has the identity's once they are known."""

from __future__ import annotations

import asyncio

from ciliumpy.endpoints.host import HostEndpoint
from ciliumpy.identity.host import HostIdentity, host_labels
from ciliumpy.identity.remote import NodeIdentities
from ciliumpy.model.labels import LabelFilter, parse
from ciliumpy.model.selectors import Operator, Requirement, all_of, exists
from ciliumpy.state.database import Database
from ciliumpy.tables.endpoints import ENDPOINTS, HOST_ID
from ciliumpy.tables.identities import IDENTITIES, NODE_IDENTITIES
from ciliumpy.tables.registry import ALL_TABLES
from ciliumpy.tables.source import NODES, Node

OWN = Node("n1", labels=(("role", "edge"),))


def labels(db: Database) -> tuple[str, ...]:
    row = db.table(IDENTITIES).get(1)
    assert row is not None
    return row.labels


def test_labels_pass_the_filter() -> None:
    found = (("kubernetes.io/hostname", "n1"), ("node-role.kubernetes.io/control-plane", ""), ("role", "edge"))
    keep = LabelFilter()
    assert host_labels(found, keep) == ("node:node-role.kubernetes.io/control-plane", "node:role=edge", "reserved:host")


def test_they_follow_the_own_nodes_object() -> None:
    db = Database(ALL_TABLES)
    job = HostIdentity(db, OWN)
    assert labels(db) == ("node:role=edge", "reserved:host")
    with db.write() as txn:
        txn.upsert(NODES, Node("n1", labels=(("role", "inner"),)))
        txn.upsert(NODES, Node("n2", labels=(("role", "other"),)))
    job.step()
    assert labels(db) == ("node:role=inner", "reserved:host")
    with db.write() as txn:
        txn.delete(NODES, "n1")
    job.step()
    assert labels(db) == ("node:role=inner", "reserved:host"), "an object that is gone takes no policy with it"


def test_where_cidrs_match_nodes_a_rule_for_a_prefix_selects_them_by_their_addresses() -> None:
    db = Database(ALL_TABLES)
    job = HostIdentity(db, Node("n1", internal_ips=("172.30.0.1",)), by_address=True)
    others = NodeIdentities(db, "n1", by_address=True)
    prefix = all_of(exists("cidr", "172.30.0.0/24"), Requirement("cidr", "172.30.0.9/32", Operator.DOES_NOT_EXIST))

    def selected() -> set[int]:
        return {row.id for row in db.table(IDENTITIES).all() if prefix.matches(map(parse, row.labels))}

    assert selected() == {1}
    for own, other, expected in (
        ("172.30.0.1", "172.30.0.2", {1, 2 << 24 | 1}),
        ("172.30.0.9", "172.30.0.2", {2 << 24 | 1}),
        ("172.30.0.1", "172.31.0.2", {1, 2 << 24 | 1}),  # the former number is kept for a while
        ("fd00::1", "172.31.0.2", {2 << 24 | 1}),
    ):
        with db.write() as txn:
            txn.upsert(NODES, Node("n1", internal_ips=(own,)))
            txn.upsert(NODES, Node("n2", internal_ips=(other,)))
        job.step()
        others.step()
        assert selected() == expected
    row = db.table(NODE_IDENTITIES).get("n2")
    assert row is not None
    assert row.identity not in selected()
    plain = HostIdentity(Database(ALL_TABLES), OWN)
    assert not any(text.startswith("cidr:") for text in labels(plain._db))


async def test_the_endpoint_has_its_identity_when_the_labels_are_known() -> None:
    db = Database(ALL_TABLES)
    identity, ready = HostIdentity(db, OWN), asyncio.Event()
    host = HostEndpoint(db)
    jobs = [asyncio.create_task(identity.run(ready)), asyncio.create_task(host.run(identity.caught_up))]
    observer = db.table(ENDPOINTS).observe("test")
    observer.take()
    try:
        await asyncio.sleep(0)
        row = db.table(ENDPOINTS).get(HOST_ID)
        assert row is not None
        assert (row.identity, row.state) == (0, "restoring")
        with db.write() as txn:
            txn.upsert(NODES, Node("n1", labels=(("role", "core"),)))
        ready.set()
        await asyncio.wait_for(observer.wait(), 5)
        row = db.table(ENDPOINTS).get(HOST_ID)
        assert row is not None
        assert (row.identity, row.labels) == (1, ("node:role=core", "reserved:host"))
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
