# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf ct get`."""

from __future__ import annotations

import ipaddress
import sys
from typing import Annotated, NamedTuple

import typer

from ciliumpy.cli.bpf.ct_filter import Filter, Protocol
from ciliumpy.cli.bpf.ct_list import order, tuple_text
from ciliumpy.cli.bpf.ct_rows import read
from ciliumpy.cli.bpf.every import every
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Item, Pairs, description, finish, parse_format, show
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.kit.units import format_duration

One = Annotated[
    str, typer.Argument(metavar="ADDRESS[:PORT]", help="One end: 10.244.1.3:41234, [fd00::3]:80, 10.0.0.1.")
]
Other = Annotated[str | None, typer.Argument(metavar="[ADDRESS[:PORT]]", help="The other end.")]


class End(NamedTuple):
    ip: str
    port: int | None


def run(
    one: One,
    other: Other = None,
    protocol: Protocol = None,
    lab: Lab = None,
    node: Node = None,
    output: Output = "text",
) -> None:
    """Show the flows between two ends, or of one, in whichever direction they began. Reads the kernel, not the agent.

    "There" is the way of the flow's first packet, "back" the other.
    """
    form = parse_format(output)
    ends = [end(each) for each in (one, other) if each is not None]
    wanted = Filter.of([], None, None, protocol)
    items, errors = every(
        lab, node, lambda target: [row for row in read(target) if wanted.meets(row) and between(row, ends)]
    )
    if not items and not errors:
        raise CiliumpyError(f"there is no flow of {' and '.join(filter(None, (one, other)))}", "see `bpf ct list`")
    if form.kind not in ("text", "wide"):
        show("ConntrackList", items, [], output, name=tuple_text, sort=order, errors=errors)
        return
    blocks = [description(pairs(item)) for item in sorted(items, key=lambda item: (item["node"], order(item)))]
    sys.stdout.write("\n".join(blocks))
    finish(errors)


def pairs(e: Item) -> Pairs:
    return [
        ("Flow", f"{tuple_text(e)} on {e['node']}"),
        ("Identities", f"{e['sourceIdentity']} -> {e['destinationIdentity']}"),
        ("Endpoints", f"{e['sourceEndpoint'] or '-'} -> {e['destinationEndpoint'] or '-'}"),
        ("Goes to", e["target"]),
        ("Packets", f"{e['packets'][0]} there, {e['packets'][1]} back"),
        ("Bytes", f"{e['bytes'][0]} there, {e['bytes'][1]} back"),
        ("Flags", ", ".join(e["flags"]) or "none"),
        ("Way back", "judged" if e["replyJudged"] else "not judged yet"),
        ("Lives", f"{format_duration(e['remainingSeconds'])} more without a packet"),
        ("Map", e["map"]),
    ]


def end(text: str) -> End:
    """Return what `ADDRESS[:PORT]` says. CiliumpyError (2) if it is none."""
    host, port = text, None
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or None
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ip = str(ipaddress.ip_address(host))
        return End(ip, None if port is None else int(port))
    except ValueError:
        raise CiliumpyError(f"{text!r} is no address with a port", "as 10.244.1.3:8080, [fd00::3]:8080", 2) from None


def between(row: Item, ends: list[End]) -> bool:
    """Whether each end is one of the row's, and two ends are both of them."""

    def same(side: Item, wanted: End) -> bool:
        return side["ip"] == wanted.ip and wanted.port in (None, side["port"])

    source, destination = row["source"], row["destination"]
    if len(ends) == 1:
        return same(source, ends[0]) or same(destination, ends[0])
    one, other = ends
    return (same(source, one) and same(destination, other)) or (same(source, other) and same(destination, one))
