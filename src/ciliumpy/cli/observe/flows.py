# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG001 - the flags that select and filter are read all together, from the context
"""`ciliumpy observe`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ciliumpy.cli.observe import request as requests
from ciliumpy.cli.observe.filters import refuse
from ciliumpy.cli.observe.recorded import Recording
from ciliumpy.cli.options import Lab, Node
from ciliumpy.client import target

if TYPE_CHECKING:
    from ciliumpy.proto.observer_pb2 import GetFlowsRequest, GetFlowsResponse


def flag(*names: str, metavar: str | None = None, help: str) -> Any:  # noqa: A002 - typer's word
    return typer.Option(*names, metavar=metavar, help=help)


Texts = list[str] | None

POD, LABEL, IP, PORT, ID = "[NAMESPACE/]PREFIX", "SELECTOR", "ADDRESS", "PORT", "IDENTITY"


def run(
    ctx: typer.Context,
    last: Annotated[int | None, flag("--last", metavar="N", help="The newest N (default 20).")] = None,
    first: Annotated[int | None, flag("--first", metavar="N", help="The oldest N.")] = None,
    all_flows: Annotated[bool, flag("--all", help="Everything that is kept.")] = False,
    since: Annotated[str, flag("--since", metavar="TIME", help="From then: 5m ago, or a time.")] = "",
    until: Annotated[str, flag("--until", metavar="TIME", help="Until then.")] = "",
    follow: Annotated[bool, flag("--follow", "-f", help="Go on with new ones.")] = False,
    input_file: Annotated[str, flag("--input-file", metavar="FILE", help="Read recorded flows; - is stdin.")] = "",
    verdict: Annotated[
        Texts, flag("--verdict", metavar="FORWARDED|DROPPED|AUDIT|REDIRECTED|ERROR", help="So judged.")
    ] = None,
    kind: Annotated[
        Texts, flag("--type", "-t", metavar="drop|trace|policy-verdict", help="Also with :SUB, as trace:to-overlay.")
    ] = None,
    pod: Annotated[Texts, flag("--pod", metavar=POD, help="From or to pods so named.")] = None,
    from_pod: Annotated[Texts, flag("--from-pod", metavar=POD, help="From pods so named.")] = None,
    to_pod: Annotated[Texts, flag("--to-pod", metavar=POD, help="To pods so named.")] = None,
    namespace: Annotated[Texts, flag("--namespace", "-n", metavar="TEXT", help="From or to the namespace.")] = None,
    from_namespace: Annotated[Texts, flag("--from-namespace", metavar="TEXT", help="From the namespace.")] = None,
    to_namespace: Annotated[Texts, flag("--to-namespace", metavar="TEXT", help="To the namespace.")] = None,
    all_namespaces: Annotated[bool, flag("--all-namespaces", "-A", help="Pods of any namespace.")] = False,
    label: Annotated[Texts, flag("--label", "-l", metavar=LABEL, help="From or to pods so labelled.")] = None,
    from_label: Annotated[Texts, flag("--from-label", metavar=LABEL, help="From pods so labelled.")] = None,
    to_label: Annotated[Texts, flag("--to-label", metavar=LABEL, help="To pods so labelled.")] = None,
    identity: Annotated[Texts, flag("--identity", metavar=ID, help="From or to it; number or name.")] = None,
    from_identity: Annotated[Texts, flag("--from-identity", metavar=ID, help="From the identity.")] = None,
    to_identity: Annotated[Texts, flag("--to-identity", metavar=ID, help="To the identity.")] = None,
    ip: Annotated[Texts, flag("--ip", metavar=IP, help="From or to the address or prefix.")] = None,
    from_ip: Annotated[Texts, flag("--from-ip", metavar=IP, help="From the address or prefix.")] = None,
    to_ip: Annotated[Texts, flag("--to-ip", metavar=IP, help="To the address or prefix.")] = None,
    port: Annotated[Texts, flag("--port", metavar=PORT, help="From or to the port.")] = None,
    from_port: Annotated[Texts, flag("--from-port", metavar=PORT, help="From the port.")] = None,
    to_port: Annotated[Texts, flag("--to-port", metavar=PORT, help="To the port.")] = None,
    workload: Annotated[Texts, flag("--workload", metavar="[KIND/]NAME", help="From or to it.")] = None,
    protocol: Annotated[Texts, flag("--protocol", metavar="TEXT", help="tcp, udp, icmp, ...")] = None,
    tcp_flags: Annotated[Texts, flag("--tcp-flags", metavar="FLAGS", help="All of these: syn,ack.")] = None,
    ipv4: Annotated[bool, flag("--ipv4", "-4", help="IPv4 only.")] = False,
    ipv6: Annotated[bool, flag("--ipv6", "-6", help="IPv6 only.")] = False,
    traffic_direction: Annotated[
        Texts, flag("--traffic-direction", metavar="ingress|egress", help="As the pod sees it.")
    ] = None,
    drop_reason_desc: Annotated[Texts, flag("--drop-reason-desc", metavar="TEXT", help="As POLICY_DENIED.")] = None,
    node_name: Annotated[Texts, flag("--node-name", metavar="PATTERN", help="Reported by the node.")] = None,
    uuid: Annotated[Texts, flag("--uuid", metavar="TEXT", help="The one event.")] = None,
    allowlist: Annotated[Texts, flag("--allowlist", metavar="JSON", help="A flow filter as JSON.")] = None,
    denylist: Annotated[Texts, flag("--denylist", metavar="JSON", help="Hide what the filter matches.")] = None,
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="compact|dict|json|jsonpb|table", help="How to print."),
    ] = "compact",
    print_node_name: Annotated[bool, typer.Option("--print-node-name", help="Also the node that reported it.")] = False,
    print_policy_names: Annotated[
        bool, typer.Option("--print-policy-names", help="Also the policies that decided.")
    ] = False,
    ip_translation: Annotated[
        bool, typer.Option("--ip-translation/--no-ip-translation", help="Names rather than addresses.")
    ] = True,
    numeric: Annotated[bool, typer.Option("--numeric", help="Addresses rather than names.")] = False,
    time_format: Annotated[
        str, typer.Option("--time-format", metavar="FORMAT", help="As RFC3339Milli.")
    ] = "StampMilli",
    color: Annotated[str, typer.Option("--color", metavar="auto|always|never", help="Colours.")] = "auto",
    lab: Lab = None,
    node: Node = None,
) -> None:
    """Show flows: who talked to whom, and what was dropped.

    Different filters have to match together; of one filter given twice, either. Reads all nodes, oldest flow first.
    """
    from ciliumpy.flows.printers import Printer, Style

    flags = {**ctx.params, "type": ctx.params["kind"]}
    request = requests.build(flags, time.time_ns(), whole=bool(input_file))
    style = Style(
        color=_color(color),
        node_name=print_node_name,
        policy_names=print_policy_names,
        names=ip_translation and not numeric,
        time_format=time_format,
    )
    printer = Printer(output, style, sys.stdout, sys.stderr)
    if input_file:
        failures = _replay(input_file, request, printer.write)
    else:
        _mask(request, output, policies=print_policy_names)
        failures = _print(_ask(request, lab, node), printer.write, flush=follow)
    printer.close()
    if failures:
        sys.stdout.flush()
        raise typer.Exit(1)


def _color(choice: str) -> bool:
    if choice not in ("auto", "always", "never"):
        raise refuse(f'invalid color mode "{choice}"', "auto, always or never")
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return choice == "always" or (choice == "auto" and sys.stdout.isatty() and not plain)


def _mask(request: GetFlowsRequest, output: str, *, policies: bool) -> None:
    """Ask only for what will be printed."""
    from ciliumpy.flows.printers import POLICY_FIELDS, TEXT_FIELDS

    if output not in ("json", "jsonpb"):
        request.field_mask.paths.extend(TEXT_FIELDS + (POLICY_FIELDS if policies else ()))


def _replay(path: str, request: GetFlowsRequest, write: Callable[[GetFlowsResponse], None]) -> int:
    """Print recorded flows; return how many lines were none."""
    recording = Recording(path)
    for response in recording.select(request):
        write(response)
    return recording.bad


def _ask(request: GetFlowsRequest, lab: str | None, node: str | None) -> Iterator[GetFlowsResponse | tuple[str, str]]:
    """Yield the flows of all nodes that are meant, and (node, reason) for those that do not answer."""
    from ciliumpy.client.observer import Server, get_flows

    failures: list[tuple[str, str]] = []
    servers = [Server(each.node, str(each.hubble_socket)) for each in target.select(lab, node)]
    for response in get_flows(servers, request, lambda name, reason: failures.append((name, reason))):
        yield from failures
        failures.clear()
        yield response
    yield from failures


def _print(
    responses: Iterator[GetFlowsResponse | tuple[str, str]],
    write: Callable[[GetFlowsResponse], None],
    *,
    flush: bool,
) -> int:
    """Print what comes; return how many nodes did not answer."""
    failed = 0
    for response in responses:
        if isinstance(response, tuple):
            failed += 1
            sys.stderr.write(f"Error: node {response[0]}: {response[1]}\n")
            continue
        write(response)
        if flush:
            sys.stdout.flush()
    return failed
