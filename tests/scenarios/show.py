# SPDX-License-Identifier: Apache-2.0
"""Rows of tables and maps as aligned text: the columns that were asked for, of the rows that were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ciliumpy.api import admin_statedb as statedb
from ciliumpy.bpf.dump import address
from ciliumpy.cli.output import Column, table
from ciliumpy.cli.statedb.dump import cell, heading, natural
from ciliumpy.model.verdicts import Verdict
from ciliumpy.state.table import Table
from tests.unit.datapath.kernel import ARRAYS, FakeMap

VARYING = {"generation", "mac", "hostMac"}
ADDRESS_FLAGS = {1: "tunnel", 2: "host", 4: "node"}
FLAGS = {
    "cp_endpoint_v1": {1: "ready", 2: "ingress", 4: "egress"},
    "cp_iphost_v1": ADDRESS_FLAGS,
    "cp_ipcidr_v1": ADDRESS_FLAGS,
    "cp_class_v2": {1: "everybody"},
}
NONE = "no rows\n"
Row = Mapping[str, Any]


class Shown:
    """Turns rows into text. What varies from run to run keeps the name that it got when it was first seen."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._names: dict[tuple[str, Any], str] = {}

    def table(self, of: Table[Any], wanted: Sequence[str]) -> str:
        """What `statedb dump` says; masks of bits as their numbers."""
        rows = []
        for row in of.all():
            said = statedb.dump(of, row)
            fields = {statedb.camel(name): getattr(row, name) for name in row.__struct_fields__}
            masks = {name: _bits(value) for name, value in fields.items() if isinstance(value, bytes)}
            status = said.get("status", {})
            text = {"status": f"{status.get('state', '-')} {status.get('error', '')}".strip()}
            rows.append(said["row"] | masks | text)
        return self._text(rows, wanted)

    def map(self, of: FakeMap, wanted: Sequence[str]) -> str:
        """Keys and values side by side; rows of an array that are all zero are not shown."""
        flags = FLAGS.get(of.name, {})
        rows = []
        for key, value in dict(of.rows).items():
            if any(value) or of.type not in ARRAYS:
                left = _plain(np.frombuffer(key, of.key_dtype)[0], flags)
                right = _plain(np.frombuffer(value, of.value_dtype)[0], flags)
                rows.append(_named(left, "key") | _named(right, "value"))
        return self._text(rows, wanted)

    def _text(self, rows: Sequence[Row], wanted: Sequence[str]) -> str:
        conditions = dict(word.split("=", 1) for word in wanted if "=" in word)
        found = [row for row in rows if all(_cell(row[name]) == value for name, value in conditions.items())]
        names = [word for word in wanted if "=" not in word] or list(rows[0] if rows else ())
        columns = [Column(heading(name), lambda row, name=name: self._value(name, row[name])) for name in names]
        return table(columns, sorted(found, key=lambda row: [natural(row[name]) for name in names])) if found else NONE

    def _value(self, name: str, value: Any) -> object:
        if name in VARYING:
            number = sum(known == name for known, _ in self._names) + 1
            return self._names.setdefault((name, value), f"{name}-{number}")
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return [" ".join(f"{key}={_cell(each)}" for key, each in part.items() if each) for part in value]
        return _cell(value).replace(self._root + "/", "")


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else str(cell(value))


def _named(value: Any, otherwise: str) -> dict[str, Any]:
    return value if isinstance(value, dict) else {otherwise: value}


def _bits(data: bytes) -> list[int]:
    mask = int.from_bytes(data, "little")
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


def _plain(value: Any, flags: Mapping[int, str]) -> Any:
    """A value of a C type: a dictionary for a struct, a list for an array, empty elements left out."""
    if isinstance(value, np.void):
        if value.dtype.names == ("b",):
            return address(value.tobytes()) if any(value.tobytes()) else ""
        if value.dtype.names == ("prefixlen", "addr"):
            base, length = address(value["addr"].tobytes()), int(value["prefixlen"])
            return {"prefix": f"{base}/{length if ':' in base else length - 96}"}
        return {statedb.camel(name): _field(name, value[name], flags) for name in value.dtype.names if name != "pad"}
    if isinstance(value, np.ndarray):
        return [_plain(each, flags) for each in value if value.dtype.names is None or any(each.tobytes())]
    return int(value)


def _field(name: str, value: Any, flags: Mapping[int, str]) -> Any:
    if name in {"words", "mask"}:
        return _bits(value.tobytes())
    if name in {"mac", "host_mac"}:
        return value.tobytes().hex(":")
    if name == "flags":
        return [text for bit, text in flags.items() if int(value) & bit]
    return Verdict(int(value)).name.lower() if name == "verdict" else _plain(value, flags)
