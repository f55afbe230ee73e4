# SPDX-License-Identifier: Apache-2.0
"""Other nodes have identities of their labels where policies may name them, and of their addresses where CIDRs do."""

from __future__ import annotations

from ciliumpy.identity.remote import LINGER_S, NodeIdentities, node_labels
from ciliumpy.model.labels import LabelFilter
from ciliumpy.state.database import Database
from ciliumpy.tables.identities import IDENTITIES, NODE_IDENTITIES
from ciliumpy.tables.registry import ALL_TABLES
from ciliumpy.tables.source import NODES, Node
from tests.unit.state.support import FakeClock

FIRST = 33554433
NODE = Node("n2", internal_ips=("172.30.0.2", "fd00::2"), labels=(("kubernetes.io/hostname", "n2"), ("zone", "a")))


def test_what_nodes_are_told_apart_by() -> None:
    keep = LabelFilter()
    assert node_labels(NODE, keep, by_label=False, by_address=False) is None
    assert node_labels(NODE, keep, by_label=True, by_address=False) == ("node:zone=a", "reserved:remote-node")
    assert node_labels(NODE, keep, by_label=False, by_address=True) == (
        "cidr:172.30.0.2/32",
        "cidr:fd00--2/128",
        "reserved:remote-node",
    )
    assert node_labels(Node("n3"), keep, by_label=True, by_address=True) is None


def test_numbers_follow_the_labels_and_go_after_a_while() -> None:
    clock = FakeClock()
    db = Database(ALL_TABLES, clock=clock)
    nodes = NodeIdentities(db, "n1", by_label=True)
    with db.write() as txn:
        txn.upsert(NODES, Node("n1", labels=(("zone", "a"),)))
        txn.upsert(NODES, NODE)
        txn.upsert(NODES, Node("n3", labels=(("zone", "a"),)))
    nodes.step()
    assert {row.node: row.identity for row in db.table(NODE_IDENTITIES).all()} == {"n2": FIRST, "n3": FIRST}
    with db.write() as txn:
        txn.delete(NODES, "n2")
        txn.upsert(NODES, Node("n3", labels=(("zone", "b"),)))
    nodes.step()
    assert {row.node: row.identity for row in db.table(NODE_IDENTITIES).all()} == {"n3": FIRST + 1}
    assert FIRST in db.table(IDENTITIES)
    clock.advance(LINGER_S + 1)
    nodes.step()
    assert FIRST not in db.table(IDENTITIES)
    assert FIRST + 1 in db.table(IDENTITIES)
