# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf ct list`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ciliumpy.cli.bpf.ct_filter import Endpoint, Filter, Ip, Port, Protocol
from ciliumpy.cli.bpf.ct_rows import read
from ciliumpy.cli.bpf.every import every
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Item, finish, parse_format, show
from ciliumpy.kit.errors import CiliumpyError

Global = Annotated[str, typer.Argument(metavar="[global]", help="All flows of the node; there are no other tables.")]
Diff = Annotated[bool, typer.Option("--time-diff", "-d", help="Also print how long each entry has still to live.")]


def run(
    which: Global = "global",
    time_diff: Diff = False,
    ip: Ip = [],  # noqa: B006 - typer copies it
    endpoint: Endpoint = None,
    port: Port = None,
    protocol: Protocol = None,
    lab: Lab = None,
    node: Node = None,
    output: Output = "text",
) -> None:
    """List the flows that the datapath knows, one line each. Reads the kernel, not the agent.

    OUT is a flow that a pod of this node began, IN one that came to it. Tx is the way of its first packet, Rx the way
    back. Expired entries, which are none to the datapath any more, are left out.
    """
    check(which)
    form = parse_format(output)
    wanted = Filter.of(ip, endpoint, port, protocol)
    items, errors = every(lab, wanted.node_of(node), lambda target: [row for row in read(target) if wanted.meets(row)])
    if form.kind not in ("text", "wide"):
        show("ConntrackList", items, [], output, name=tuple_text, sort=order, errors=errors)
        return
    for item in sorted(items, key=lambda item: (item["node"], order(item))):
        sys.stdout.write((f"{item['node']} " if errors.asked > 1 else "") + line(item, time_diff=time_diff) + "\n")
    if not items and not errors:
        sys.stderr.write("No entries found.\n")
    finish(errors)


def check(which: str) -> None:
    if which != "global":
        raise CiliumpyError(f"there is no conntrack table {which!r}", "the one there is, is called global", 2)


def line(e: Item, *, time_diff: bool) -> str:
    """Return an entry as cilium-dbg prints it; what is ours alone stands at the end."""
    rest = f" (remaining: {e['remainingSeconds']:.0f} sec(s))" if time_diff else ""
    names = "".join(f"{name} " for name in e["flags"])
    state = "" if e["answered"] else " Unanswered"
    return (
        f"{tuple_text(e)} expires={e['expires']}{rest} Packets={e['packets'][0] + e['packets'][1]} "
        f"Bytes={e['bytes'][0] + e['bytes'][1]} RxFlagsSeen=0x{e['flagsSeen'][1]:02x} LastRxReport={e['reported'][1]} "
        f"TxFlagsSeen=0x{e['flagsSeen'][0]:02x} LastTxReport={e['reported'][0]} "
        f"Flags=0x{e['rawFlags']:04x} [ {names}] RevNAT={e['serviceID']} SourceSecurityID={e['sourceIdentity']} "
        f"BackendID=0 DestSecurityID={e['destinationIdentity']} To={e['target']}{state}"
    )


def tuple_text(e: Item) -> str:
    return f"{e['protocol']} {e['direction']} {pair(e['source'])} -> {pair(e['destination'])}"


def order(e: Item) -> tuple[str, str, int, int]:
    return e["protocol"], e["destination"]["ip"], e["destination"]["port"], e["source"]["port"]


def pair(side: Item) -> str:
    ip = f"[{side['ip']}]" if ":" in side["ip"] else side["ip"]
    return f"{ip}:{side['port']}"
