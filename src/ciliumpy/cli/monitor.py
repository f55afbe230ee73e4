# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy monitor`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer

from ciliumpy.cli.options import Lab, Node
from ciliumpy.cli.streams import Came, greet, streams
from ciliumpy.cli.terminal import hint_text, printable
from ciliumpy.client import target
from ciliumpy.client.admin import AdminClient
from ciliumpy.client.target import Target
from ciliumpy.flows.monitor_text import check_types, lines
from ciliumpy.kit.errors import CiliumpyError


def run(
    kind: Annotated[
        list[str] | None,
        typer.Option("--type", "-t", metavar="drop|trace|policy-verdict", help="Only these (repeated: any of them)."),
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option("--from", metavar="ID[,ID…]", help="From the endpoints (of one node: --node).")
    ] = None,
    to: Annotated[list[str] | None, typer.Option("--to", metavar="ID[,ID…]", help="To the endpoints.")] = None,
    related_to: Annotated[
        list[str] | None, typer.Option("--related-to", metavar="ID[,ID…]", help="From or to the endpoints.")
    ] = None,
    numeric: Annotated[bool, typer.Option("--numeric", "-n", help="Identities as numbers.")] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="What is known of the packet; -vv with names.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", "-j", help="As -o json.")] = False,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="text|json", help="How to print: json is an object a line.")
    ] = "text",
    direct: Annotated[bool, typer.Option("--direct", help="Read the event rings where no agent runs (root).")] = False,
    lab: Lab = None,
    node: Node = None,
) -> None:
    """Show the datapath's events as they come: drops, traces, policy verdicts.

    There is no packet in an event, so no dissection of what it carried; `flow` is a number that both directions of a
    flow have in common. Ctrl-C ends it.
    """
    if output not in ("text", "json"):
        raise CiliumpyError(f"invalid output format {output!r}", "text or json", 2)
    types = [word for text in kind or () for word in text.split(",")]
    check_types(types)
    wanted = endpoints(numbers(source, "--from"), numbers(to, "--to"), numbers(related_to, "--related-to"))
    targets = target.select(lab, node, direct=direct)
    if (source or to or related_to or direct) and len(targets) > 1:
        names = ", ".join(each.node for each in targets)
        why = "--direct reads one node's rings" if direct else "an endpoint's number means one on each node"
        raise CiliumpyError(f"{why}: {names}", f"say which: --node {targets[0].node}", 2)
    if direct:
        from ciliumpy.cli import monitor_direct

        came = monitor_direct.events(targets[0], types)
    else:
        _greet(targets)
        came = _events(targets, types)
    failed = False
    form = "json" if as_json else output
    for name, event in came:
        if isinstance(event, dict):
            if wanted(event):
                shown = {"node": name, **event} if len(targets) > 1 else event
                _show(shown, form, numeric=numeric, verbose=verbose)
        elif event is not None:
            failed = True
            said = printable(f"Error: node {name}: {event.message}\n")
            sys.stderr.write(said + (hint_text(event.hint) if event.hint else ""))
    if failed:
        raise typer.Exit(1)


def numbers(texts: Sequence[str] | None, flag: str) -> set[int]:
    """Return the endpoints that a flag names, several after one another or between commas."""
    found = set()
    for text in (part for whole in texts or () for part in whole.split(",")):
        if not (text.isascii() and text.isdecimal()) or int(text) > 65535:
            raise CiliumpyError(f"{flag}: {text!r} is no endpoint", "a number; `ciliumpy endpoint list` shows them", 2)
        found.add(int(text))
    return found


def endpoints(source: set[int], to: set[int], related: set[int]) -> Callable[[dict[str, Any]], bool]:
    """Return the test whether an event is from, to or about endpoints that are meant; any of them is enough."""

    def wanted(record: dict[str, Any]) -> bool:
        if record["type"] == "lost" or not (source or to or related):
            return True
        ends = record["source"], record["dstID"]
        return ends[0] in source or ends[1] in to or any(end in related for end in ends)

    return wanted


def _greet(targets: Sequence[Target]) -> None:
    """Say on stderr what is listened to, in cilium's words."""
    for each in targets:
        if not each.running:
            continue
        try:
            rings = AdminClient.of(each).get("/v1/status").get("monitor") or {}
        except CiliumpyError:
            continue  # the stream will say why
        where = f"{each.node}: " if len(targets) > 1 else ""
        greet(where, rings.get("cpus", "?"), rings.get("rings", "?"), rings.get("ringBytes", "?"))
    sys.stderr.write("Press Ctrl-C to quit\n")


def _events(targets: Sequence[Target], types: Sequence[str]) -> Iterator[Came]:
    """Yield what comes from all agents until the last has ended."""
    path = "/v1/monitor" + (f"?type={','.join(types)}" if types else "")
    return streams(targets, path, "event")


def _show(record: dict[str, Any], form: str, *, numeric: bool, verbose: int) -> None:
    node = record.get("node")
    if form == "json":
        text = json.dumps(record, separators=(",", ":"))
    else:
        text = printable(lines(record, numeric=numeric, verbose=verbose))
        text = f"{node}: {text}" if node else text
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
