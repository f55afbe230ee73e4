# SPDX-License-Identifier: Apache-2.0
"""An endpoint as verbs on the kernel's maps take it: its number, of one node or of the node that is said with it."""

from __future__ import annotations

from ciliumpy.kit.errors import CiliumpyError


def parse(which: str) -> tuple[str | None, int]:
    """Return the node, if one is said, and the number of an endpoint. CiliumpyError (2) if it is none."""
    place, _, number = which.rpartition(":")
    if not (number.isascii() and number.isdecimal()):
        raise CiliumpyError(f"{which!r} is no endpoint", "a number, or NODE:ID, as `ciliumpy endpoint list` shows", 2)
    return place or None, int(number)


def on_node(which: str | None, node: str | None) -> tuple[str | None, int | None]:
    """Return the node to ask and the endpoint's number. CiliumpyError (2) if two nodes are said."""
    place, number = (None, None) if which is None else parse(which)
    if None not in (place, node) and place != node:
        raise CiliumpyError(f"{which!r} is not on node {node!r}", "leave out --node", 2)
    return node or place, number
