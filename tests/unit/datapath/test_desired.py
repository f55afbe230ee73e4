# SPDX-License-Identifier: Apache-2.0
"""Slots as endpoints and sets make them."""

from __future__ import annotations

import numpy as np
import pytest

from ciliumpy.datapath import encode
from ciliumpy.datapath.desired import DesiredEndpoints
from ciliumpy.state.database import Database
from ciliumpy.tables.datapath import INSTALLED_SETS, KERNEL_ENDPOINTS, InstalledSet
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.registry import ALL_TABLES
from tests.unit.datapath.kernel import Kernel

MAC = "02:00:00:00:00:01"


@pytest.mark.parametrize(
    ("agent", "own", "expected"),
    [(False, None, False), (True, None, True), (False, True, True), (True, False, False)],
)
def test_an_endpoint_says_itself_whether_it_is_audited_or_the_agent_does(agent, own, expected):
    db = Database(ALL_TABLES)
    desired = DesiredEndpoints(db, audit=agent)
    with db.write() as txn:
        txn.upsert(ENDPOINTS, Endpoint(1, 1, "n", "p", "c", "eth0", "lxc1", 7, 8, MAC, MAC, identity=5, audit=own))
        txn.upsert(INSTALLED_SETS, InstalledSet(5, 3, True, True))
    desired.step()
    row = db.table(KERNEL_ENDPOINTS).get(1)
    assert row.audit is expected
    slots = Kernel().maps["cp_endpoint_v1"]
    value = np.frombuffer(encode.endpoint_value(slots, row), slots.value_dtype)[0]
    assert bool(value["flags"] & encode.ENDPOINT_AUDIT) is expected
