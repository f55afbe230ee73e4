# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy ip list`."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

import typer

from ciliumpy.cli.endpoint.list import has, short
from ciliumpy.cli.options import Lab, Labels, Node, Output
from ciliumpy.cli.output import Column, Problems, show
from ciliumpy.cli.query import listing
from ciliumpy.client import target
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.identity import parse_identity

Identity = Annotated[
    str | None, typer.Option("--identity", metavar="ID", help="Only with this identity: a number, or a reserved name.")
]
Numeric = Annotated[bool, typer.Option("--numeric", "-n", help="Only the identity's number, no labels.")]

COLUMNS = [
    Column("IP", lambda e: e["prefix"]),
    Column("IDENTITY", lambda e: e["identity"]),
    Column("LABELS (source:key[=value])", lambda e: short(e["labels"]), narrow=True),
    Column("LABELS (source:key[=value])", lambda e: e["labels"], wide=True),
    Column("SOURCE", lambda e: e["source"]),
    Column("HOST", lambda e: e["hostNode"] or "-"),
    Column("TUNNEL", lambda e: e["tunnel"] or "-"),
    Column("POD", lambda e: f"{e['namespace']}/{e['pod']}" if e["pod"] else "", wide=True),
]


def run(
    labels: Labels = [],  # noqa: B006 - typer copies it
    identity: Identity = None,
    numeric: Numeric = False,
    lab: Lab = None,
    node: Node = None,
    output: Output = "text",
) -> None:
    """List which identity each address has, who says so, and the node it is on, as the agents know it.

    TUNNEL is the node's address that packets are sent to. `bpf ipcache list` shows what the kernel has of it.
    """
    number = identity_number(identity)
    items, errors = addresses(lab, node)
    show(
        "IPList",
        [e for e in items if number in (None, e["identity"]) and all(has(e, label) for label in labels)],
        columns(numeric=numeric),
        output,
        name=lambda e: str(e["prefix"]),
        sort=lambda e: order(e["prefix"]),
        errors=errors,
        empty="No addresses found.",
    )


def addresses(lab: str | None, node: str | None) -> tuple[list[dict[str, Any]], Problems]:
    """Return the entries of all nodes asked. An agent leaves its own name out of its pods' entries: it is put in."""
    items, errors = listing(target.select(lab, node), "/v1/ipcache")
    return [item | {"hostNode": item["hostNode"] or (item["node"] if item["pod"] else "")} for item in items], errors


def columns(*, numeric: bool) -> list[Column]:
    return [column for column in COLUMNS if not (numeric and column.title.startswith("LABELS"))]


def identity_number(text: str | None) -> int | None:
    try:
        return None if text is None else parse_identity(text)
    except ValueError as error:
        raise CiliumpyError(f"--identity: {error}", "a number, or a reserved name such as world", 2) from None


def order(prefix: str) -> tuple[int, int, int]:
    network = ipaddress.ip_network(prefix, strict=False)
    return network.version, int(network.network_address), network.prefixlen
