# SPDX-License-Identifier: Apache-2.0
"""What was saved comes back; a damaged record costs one endpoint, not the agent."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ciliumpy.endpoints.records import Record, Records
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.tables.endpoints import Endpoint


def make(number: int) -> Record:
    endpoint = Endpoint(
        number,
        3,
        "shop",
        "api",
        "c1",
        "eth0",
        "lxc1",
        9,
        2,
        "0a:00:00:00:00:01",
        "0e:00:00:00:00:01",
        "10.0.0.2",
        "fd00::2",
    )
    return Record(endpoint, netns="/run/netns/x", uid="u")


def test_round_trip_in_order(tmp_path: Path) -> None:
    records = Records(tmp_path / "endpoints")
    for number in (12, 3):
        records.save(make(number))
    records.save(make(3))
    assert records.load() == [make(3), make(12)]
    records.remove(3)
    records.remove(3)
    assert records.load() == [make(12)]


def test_no_folder_is_no_endpoint(tmp_path: Path) -> None:
    assert Records(tmp_path / "endpoints").load() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": 0},
        {"id": 4096},
        {"generation": 1 << 32},
        {"ipv4": "x"},
        {"ipv6": "::g"},
        {"mac": "0a:00"},
        {"host_mac": "zz:00:00:00:00:01"},
    ],
)
def test_what_the_kernel_could_not_hold_is_damage_too(tmp_path: Path, wrong: dict[str, object]) -> None:
    records = Records(tmp_path)
    records.save(make(3))
    bad = msgspec.to_builtins(make(4))
    bad["endpoint"] |= wrong
    (tmp_path / "4.json").write_bytes(msgspec.json.encode(bad))
    assert records.load() == [make(3)]
    assert (tmp_path / "4.damaged").exists()


def test_damaged_record_is_set_aside(tmp_path: Path, caplog) -> None:
    records = Records(tmp_path)
    records.save(make(3))
    (tmp_path / "4.json").write_text('{"endpoint": {"id": "x"}}')
    assert records.load() == [make(3)]
    assert "4.json is damaged" in caplog.text
    assert (tmp_path / "4.damaged").exists()
    assert records.load() == [make(3)]


def test_a_record_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.save(make(3))
    (tmp_path / "3.tmp").mkdir()
    with pytest.raises(CiliumpyError, match=r"cannot write the endpoint record .*/3.json: "):
        records.save(make(3))
    assert records.load() == [make(3)]
