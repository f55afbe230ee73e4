# SPDX-License-Identifier: Apache-2.0
"""When it is said as whom policies reach a pod's named ports."""

from __future__ import annotations

import pytest

from ciliumpy.enforcement.called import Called
from ciliumpy.state.database import Database
from ciliumpy.tables.enforcement import CALLED_PODS, CALLED_WAIT_S, VECTORS, SelectorVector
from tests.unit.state.support import FakeClock

POD = ("shop", "db")


class Node:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.db = Database([VECTORS, CALLED_PODS], clock=self.clock)
        self.called = Called(self.db)
        self.vector(301, b"before")
        self.carry()

    def vector(self, identity: int, words: bytes) -> None:
        with self.db.write() as txn:
            txn.upsert(VECTORS, SelectorVector(identity, words))

    def carry(self) -> None:
        table = self.db.table(VECTORS)
        for row in table.all():
            table.set_status(row.identity, table.revision_of(row.identity), "done")

    def said(self, *pending: int) -> int:
        self.called.settle(set(pending))
        row = self.db.table(CALLED_PODS).get(POD)
        return row.identity if row else 0


@pytest.fixture
def node() -> Node:
    return Node()


def test_the_vector_is_in_the_kernel_first(node: Node) -> None:
    node.vector(301, b"with the port")
    node.called.move({POD: 301}, ())
    assert (node.said(), bool(node.called)) == (0, True)
    node.carry()
    assert (node.said(), bool(node.called)) == (301, False)


def test_every_set_that_wants_its_number_is_in_force_first(node: Node) -> None:
    node.called.move({POD: 301}, [7, 8])
    assert [node.said(7, 8), node.said(8, 9), node.said(9)] == [0, 0, 301]


def test_what_hangs_is_said_after_a_while(node: Node) -> None:
    node.called.move({POD: 301}, [7])
    node.clock.advance(CALLED_WAIT_S - 0.1)
    assert node.said(7) == 0
    node.clock.advance(0.2)
    assert (node.said(7), bool(node.called)) == (301, False)


def test_a_pod_that_moves_on_is_no_longer_what_it_was(node: Node) -> None:
    node.called.move({POD: 301}, ())
    assert node.said() == 301
    node.called.move({POD: 302}, [7])
    assert node.said(7) == 0, "not the former either: its ports go from there"
    node.called.move({POD: 303}, [8])
    assert [node.said(8), node.said()] == [0, 303], "302 is past"
    node.called.move({POD: 0}, ())
    assert (node.said(), len(node.db.table(CALLED_PODS))) == (0, 0)
