# SPDX-License-Identifier: Apache-2.0
"""Fields of the datapath's rows as people write them."""

from __future__ import annotations

from collections.abc import Mapping


def address(data: bytes) -> str:
    """Return the text of a `struct addr`; all zero is none."""
    from ciliumpy.bpf import dump

    return dump.address(data) if any(data) else ""


def flags(number: int, names: Mapping[int, str]) -> list[str]:
    """Return the names of the bits that are set; what has no name is left as a number in hexadecimal."""
    rest = number & ~sum(names)
    return [name for bit, name in names.items() if number & bit] + ([hex(rest)] if rest else [])
