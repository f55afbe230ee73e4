# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy monitor`."""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer

from ciliumpy.cli.options import Lab, Node
from ciliumpy.cli.terminal import hint_text, printable
from ciliumpy.client import target
from ciliumpy.client.admin import AdminClient
from ciliumpy.client.target import Target
from ciliumpy.flows.monitor_text import check_types, line
from ciliumpy.kit.errors import CiliumpyError

Came = tuple[str, dict[str, Any] | CiliumpyError | None]
"""The node, and an event of it, why it ended, or None: it ended."""


def run(
    kind: Annotated[
        list[str] | None,
        typer.Option("--type", "-t", metavar="drop|trace|policy-verdict", help="Only these (repeated: any of them)."),
    ] = None,
    source: Annotated[
        list[int] | None, typer.Option("--from", metavar="ID", help="From the endpoint (of one node: --node).")
    ] = None,
    to: Annotated[list[int] | None, typer.Option("--to", metavar="ID", help="To the endpoint.")] = None,
    related_to: Annotated[
        list[int] | None, typer.Option("--related-to", metavar="ID", help="From or to the endpoint.")
    ] = None,
    numeric: Annotated[bool, typer.Option("--numeric", "-n", help="Identities as numbers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", "-j", help="One JSON object an event.")] = False,
    lab: Lab = None,
    node: Node = None,
) -> None:
    """Show the datapath's events as they come: drops, traces, policy verdicts.

    There is no packet in an event, so neither hash nor dissection. Ctrl-C ends it.
    """
    types = [word for text in kind or () for word in text.split(",")]
    check_types(types)
    targets = target.select(lab, node)
    if (source or to or related_to) and len(targets) > 1:
        names = ", ".join(each.node for each in targets)
        raise CiliumpyError(
            f"an endpoint's number means one on each node: {names}", f"say which: --node {targets[0].node}", 2
        )
    wanted = _endpoints(source or (), to or (), related_to or ())
    failed = False
    _greet(targets)
    for name, came in _events(targets, types):
        if isinstance(came, dict):
            if wanted(came):
                _show(came, name if len(targets) > 1 else "", numeric=numeric, as_json=as_json)
        elif came is not None:
            failed = True
            said = printable(f"Error: node {name}: {came.message}\n")
            sys.stderr.write(said + (hint_text(came.hint) if came.hint else ""))
    if failed:
        raise typer.Exit(1)


def _endpoints(source: Sequence[int], to: Sequence[int], related: Sequence[int]) -> Callable[[dict[str, Any]], bool]:
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
        sys.stderr.write(
            f"{where}Listening for events on {rings.get('cpus', '?')} CPUs with {rings.get('rings', '?')}x"
            f"{rings.get('ringBytes', '?')} of shared memory\n"
        )
    sys.stderr.write("Press Ctrl-C to quit\n")


def _events(targets: Sequence[Target], types: Sequence[str]) -> Iterator[Came]:
    """Yield what comes from all agents until the last has ended."""
    inbox: queue.SimpleQueue[Came] = queue.SimpleQueue()
    path = "/v1/monitor" + (f"?type={','.join(types)}" if types else "")

    def listen(each: Target) -> None:
        try:
            for text in AdminClient.of(each).stream(path):
                if text:
                    inbox.put((each.node, json.loads(text)))
        except CiliumpyError as error:
            inbox.put((each.node, error))
        except ValueError as error:
            inbox.put((each.node, CiliumpyError(f"the agent sent something that is no event: {error}")))
        inbox.put((each.node, None))

    for each in targets:
        threading.Thread(target=listen, args=(each,), daemon=True).start()
    running = len(targets)
    while running:
        came = inbox.get()
        running -= came[1] is None
        yield came


def _show(record: dict[str, Any], node: str, *, numeric: bool, as_json: bool) -> None:
    if as_json:
        text = json.dumps({"node": node, **record} if node else record, separators=(",", ":"))
    else:
        text = f"{node}: {line(record, numeric=numeric)}" if node else line(record, numeric=numeric)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
