# SPDX-License-Identifier: Apache-2.0
"""Any map as JSON values."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ciliumpy.bpf import dump, sys
from ciliumpy.bpf.maps import Map
from ciliumpy.bpf.sys import MapType

pytestmark = pytest.mark.root


def test_a_row_with_one_of_every_kind(loaded):
    of = loaded.maps["s_hash_v1"]
    key, value = np.zeros((), of.key_dtype), np.zeros((), of.value_dtype)
    key["set"], key["protocol"], key["port"] = 7, 6, 443
    value["first"], value["number"], value["colour"], value["wide"] = 255, -5, -2, 1 << 32
    value["truth"], value["text"], value["pair"] = True, b"hello", [1, 2]
    value["nested"]["port"] = [80, 443]
    value["whole"] = 0x2_0000_0001
    value["named"]["one"] = 0x04030201
    value["pointer"], value["last"] = 4096, 2**64 - 1
    raw = bytearray(value.tobytes())
    raw[of.value_dtype.fields["pointer"][1] + 8] = 0b101  # the bit field behind it
    of.update(key, bytes(raw))
    (row,) = dump.rows(of)
    nested = {"set": 0, "direction": 0, "protocol": 0}
    assert row == {
        "key": {"set": 7, "direction": 0, "protocol": 6, "port": 443},
        "value": {
            "first": 255,
            "number": -5,
            "colour": "GREEN",
            "wide": "FAR",
            "truth": True,
            "text": "hello",
            "pair": [1, 2],
            "nested": [nested | {"port": 80}, nested | {"port": 443}],
            "whole": 0x2_0000_0001,
            "low": 1,
            "high": 2,
            "named": {"one": 0x04030201, "other": "01020304"},
            "pointer": 4096,
            "bits": 5,
            "last": 2**64 - 1,
        },
    }
    assert json.loads(json.dumps(row)) == row


def test_an_enum_without_a_name_for_it_is_its_number(loaded):
    of = loaded.maps["s_hash_v1"]
    value = np.zeros((), of.value_dtype)
    value["colour"] = 77
    of.update(np.zeros((), of.key_dtype), value)
    (row,) = dump.rows(of)
    assert row["value"]["colour"] == 77


def test_addresses_are_text_and_rows_sorted_by_key(loaded):
    of = loaded.maps["s_lpm_v1"]
    for last in (9, 1, 5):
        key, value = np.zeros((), of.key_dtype), np.zeros((), of.value_dtype)
        key["prefixlen"] = 128
        key["addr"]["b"] = [0] * 10 + [255, 255, 10, 0, 0, last]
        value["identity"] = last
        value["tunnel"]["b"] = [0xFD] + [0] * 14 + [last]
        of.update(key, value)
    rows = list(dump.rows(of))
    assert [row["key"]["addr"] for row in rows] == ["10.0.0.1", "10.0.0.5", "10.0.0.9"]
    assert rows[0]["value"]["tunnel"] == "fd00::1"


def test_per_cpu_rows_have_a_value_a_cpu(loaded):
    loaded.maps["s_pcpuhash_v1"].update(4, np.arange(sys.possible_cpus(), dtype="u4"))
    (row,) = dump.rows(loaded.maps["s_pcpuhash_v1"])
    assert row == {"key": 4, "values": [{"cpu": cpu, "value": cpu} for cpu in range(sys.possible_cpus())]}


def test_a_map_without_type_information_is_hexadecimal():
    with Map.create(MapType.HASH, 4, 8, 3, name="cpt_plain") as of:
        of.update(b"\1\2\3\4", b"abcdefgh")
        assert list(dump.rows(of)) == [{"key": "01020304", "value": "6162636465666768"}]


def test_constants_of_an_object_are_readable_too(loaded):
    (row,) = dump.rows(next(one for name, one in loaded.maps.items() if name.endswith(".rodata")))
    assert row["value"]["cfg_number"] == 7
    assert row["value"]["cfg_address"] == "::"
