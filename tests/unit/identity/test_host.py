# SPDX-License-Identifier: Apache-2.0
"""The host's identity has the node's labels, and the host endpoint has the identity's once they are known."""

from __future__ import annotations

import asyncio

from ciliumpy.endpoints.host import HostEndpoint
from ciliumpy.identity.host import HostIdentity, host_labels
from ciliumpy.model.labels import LabelFilter
from ciliumpy.state.database import Database
from ciliumpy.tables.endpoints import ENDPOINTS, HOST_ID
from ciliumpy.tables.identities import IDENTITIES
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
