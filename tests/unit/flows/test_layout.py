# SPDX-License-Identifier: Apache-2.0
"""The records that these tests make look like the datapath's: compared with the object's own type information."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import ciliumpy.bpf
from ciliumpy.bpf.btf import Btf
from ciliumpy.flows import expand, source_files
from tests.unit.flows import events

OBJECT = Path(ciliumpy.bpf.__file__).parent / "objects/datapath.o"


@pytest.fixture(scope="module")
def btf() -> Btf:
    if not OBJECT.exists():
        pytest.skip("the BPF objects are not built (make bpf)")
    return Btf.from_object(OBJECT)


def test_the_event_record(btf: Btf) -> None:
    real = btf.dtype("event")
    assert real.itemsize == events.EVENT.itemsize
    for name, (field, offset, *_) in events.EVENT.fields.items():
        assert real.fields[name][1] == offset, name
        assert np.zeros((), real.fields[name][0]).nbytes == np.zeros((), field).nbytes, name


HEADER = OBJECT.parents[1] / "c/layout.h"


def enum(name: str) -> dict[str, int]:
    """Names and numbers of an enum of the header: unused as types, they are not in the object."""
    body = re.search(rf"enum {name} {{(.*?)}};", HEADER.read_text(), re.DOTALL)
    assert body, name
    found = re.findall(r"^\s*(\w+) = (\d+)(?: << (\d+))?,", body[1], re.MULTILINE)
    return {key: int(number) << int(shift or 0) for key, number, shift in found}


def test_numbers_in_a_record() -> None:
    assert enum("event_type") == {
        "EVENT_FLOW": expand.EVENT_FLOW,
        "EVENT_DROP": expand.EVENT_DROP,
        "EVENT_AGGREGATE": expand.EVENT_AGGREGATE,
        "EVENT_CLOSE": expand.EVENT_CLOSE,
    }
    names = ("IPV6", "REPLY", "REPLY_UNKNOWN", "TO_LOCAL", "TO_OVERLAY", "TO_HOST", "TO_NETWORK", "TO_PROXY")
    assert enum("event_flags") == {f"EVENT_{name}": getattr(events, name) for name in names}
    assert all(getattr(expand, name) == getattr(events, name) for name in names)
    passed = {"RULE_NOT_ENFORCED", "RULE_REPLY"}  # no verdict of a policy
    verdicts = enum("rule_verdict")
    assert {name: getattr(expand, name) for name in verdicts.keys() - passed} == {
        name: number for name, number in verdicts.items() if name not in passed
    }
    assert enum("hook")["HOOK_POD"] == expand.HOOK_POD
    files = {number: f"{name.removeprefix('FILE_').lower()}.h" for name, number in enum("source_file").items()}
    assert files == source_files.FILES
