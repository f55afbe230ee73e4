# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf config list`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ciliumpy.cli.bpf.every import every
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, show
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from pathlib import Path

    from ciliumpy.client.target import Target

PREFIX = "cfg_"  # of what config.h declares
COLUMNS = [Column("KEY", lambda c: c["key"]), Column("VALUE", lambda c: c["value"])]


def run(lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List the constants that the programs were loaded with: what they do, whatever the configuration says now.

    Times are the kernel's ticks divided by 256. Reads the kernel, not the agent; it needs tcx links, by which it finds
    the program.
    """
    items, errors = every(lab, node, read)
    show(
        "BPFConfigList",
        items,
        COLUMNS,
        output,
        name=lambda c: str(c["key"]),
        sort=lambda c: c["key"],
        errors=errors,
        empty="No entries found.",
    )


def read(target: Target) -> list[dict[str, Any]]:
    """Return the constants of the program on the node's link to its pods."""
    from ciliumpy.bpf import dump, sys
    from ciliumpy.bpf.links import Link
    from ciliumpy.bpf.maps import Map

    with Link.open_pinned(pin(target)) as link:
        fd = sys.fd_by_id(sys.Command.PROG_GET_FD_BY_ID, link.program_id)
    try:
        numbers = sys.program_maps(fd)
    finally:
        os.close(fd)
    for number in numbers:
        with Map.from_id(number) as opened:
            if opened.name.endswith(".rodata"):
                values = next(dump.rows(opened))["value"]
                return [
                    {"key": name.removeprefix(PREFIX), "value": value}
                    for name, value in values.items()
                    if name.startswith(PREFIX)
                ]
    return []


def pin(target: Target) -> Path:
    found = sorted((target.bpffs / "links").glob("host-*"))
    if not found:
        raise CiliumpyError(
            f"no link is pinned in {target.bpffs / 'links'}", "has the agent of this node ever run, with tcx links?"
        )
    return found[0]
