# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy ip get`."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

import typer

from ciliumpy.cli.ip.list import addresses, columns
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, show
from ciliumpy.kit.errors import CiliumpyError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

Which = Annotated[str, typer.Argument(metavar="ADDRESS", help="An address, or a prefix: 10.244.1.7, 10.0.0.0/8.")]


def run(which: Which, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Show which identity an address has: the entry with the longest prefix decides, on each node.

    Shorter prefixes that cover the address too stand in -o wide, and in -o json as `covered`. What no entry covers is
    the world.
    """
    asked = parse(which)
    items, errors = addresses(lab, node)
    found = []
    for place in dict.fromkeys(item["node"] for item in items):
        covering = cover(asked, [item for item in items if item["node"] == place])
        if covering:
            found.append(covering[0] | {"asked": str(asked), "covered": [each["prefix"] for each in covering[1:]]})
    if not found and not errors:
        raise CiliumpyError(f"no entry covers {which}: it is the world", "`ciliumpy ip list` shows the entries")
    also = Column("ALSO COVERED BY", lambda e: e["covered"], wide=True)
    show(
        "IPList",
        found,
        [*columns(numeric=False), also],
        output,
        name=lambda e: str(e["prefix"]),
        sort=lambda e: e["prefix"],
        errors=errors,
    )


def parse(text: str) -> Network:
    """Return an address or prefix; CiliumpyError (2) if it is none."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise CiliumpyError(f"{text!r} is no address and no prefix", "as 10.244.1.7, fd00::/48", 2) from None


def cover(asked: Network, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries whose prefix has all of `asked`, the longest prefix first."""
    found = []
    for item in items:
        network = ipaddress.ip_network(item["prefix"], strict=False)
        if (
            network.version == asked.version
            and network.prefixlen <= asked.prefixlen
            and asked.network_address in network
        ):
            found.append((network.prefixlen, item))
    return [item for _, item in sorted(found, key=lambda pair: -pair[0])]
