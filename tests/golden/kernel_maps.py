# SPDX-License-Identifier: Apache-2.0
"""Rows of pinned maps, written by hand."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import numpy as np

from ciliumpy.bpf.maps import Map


def addr(text: str) -> bytes:
    ip = ipaddress.ip_address(text)
    return bytes(10) + b"\xff\xff" + ip.packed if ip.version == 4 else ip.packed


def row(dtype: np.dtype, fields: dict | int) -> np.ndarray:
    """One row, by fields if it is a struct; an address or MAC is given as bytes."""
    if isinstance(fields, int):
        return np.array([fields], dtype)
    made = np.zeros(1, dtype)
    for name, value in fields.items():
        if isinstance(value, bytes):
            offset = dtype.fields[name][1]
            made.view("u1").reshape(-1)[offset : offset + len(value)] = np.frombuffer(value, "u1")
        else:
            made[name] = value
    return made


class Maps:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, key: dict | int, value: dict | int) -> None:
        with Map.open_pinned(self.folder / name) as opened:
            opened.update_batch(row(opened.key_dtype, key), row(opened.value_dtype, value))

    def dtype(self, name: str, field: str) -> np.dtype:
        with Map.open_pinned(self.folder / name) as opened:
            return opened.value_dtype[field].base
