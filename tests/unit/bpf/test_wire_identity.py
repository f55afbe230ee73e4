# SPDX-License-Identifier: Apache-2.0
"""The number an identity has on the wire: the datapath and the model say the same."""

from __future__ import annotations

import pytest

from ciliumpy.bpf.programs import load_object
from ciliumpy.model.identity import Reserved, to_wire

EDGES = [edge + off for edge in (1 << 8, 1 << 16, 1 << 24, 2 << 24, 3 << 24) for off in (-1, 0, 1)]


@pytest.fixture(scope="module")
def wire(compiled):
    with load_object(compiled("wire")) as collection:
        yield collection.programs["wire"]


@pytest.mark.parametrize("identity", [*map(int, Reserved), *EDGES, (1 << 24) + 4711, (2 << 24) + 4711])
def test_datapath_and_model_agree(wire, identity):
    run = wire.test_run(identity.to_bytes(4, "little") + bytes(60))
    assert run.retval == int(to_wire(identity))
