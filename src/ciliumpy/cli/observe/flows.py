# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG001 - the flags that select and filter are read all together, from the context
"""`ciliumpy observe`."""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated, Any

import typer

from ciliumpy.cli.observe import request as requests
from ciliumpy.cli.observe.answers import replay, show
from ciliumpy.cli.observe.filters import check_carried, raw_text, refuse
from ciliumpy.cli.observe.negation import META, NegatingCommand
from ciliumpy.cli.options import Lab, Node
from ciliumpy.client import target


def flag(*names: str, metavar: str | None = None, help: str) -> Any:  # noqa: A002 - typer's word
    return typer.Option(*names, metavar=metavar, help=help)


Texts = list[str] | None

POD, LABEL, IP, PORT, ID = "[NAMESPACE/]PREFIX", "SELECTOR", "ADDRESS", "PORT", "IDENTITY"
WORKLOAD = "[KIND/]NAME"
COMMAND = NegatingCommand


def run(
    ctx: typer.Context,
    last: Annotated[
        int | None, flag("--last", metavar="N", help="The newest N (default 20); with -f of each node.")
    ] = None,
    first: Annotated[int | None, flag("--first", metavar="N", help="The oldest N.")] = None,
    all_flows: Annotated[bool, flag("--all", help="Everything that is kept.")] = False,
    since: Annotated[str, flag("--since", metavar="TIME", help="From then: 5m (back from now), or a date.")] = "",
    until: Annotated[str, flag("--until", metavar="TIME", help="Until then.")] = "",
    follow: Annotated[bool, flag("--follow", "-f", help="Go on with new ones.")] = False,
    input_file: Annotated[str, flag("--input-file", metavar="FILE", help="Read recorded flows; - is stdin.")] = "",
    negate: Annotated[list[bool] | None, flag("--not", help="Hide what the next filter matches.")] = None,
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
    from_all_namespaces: Annotated[bool, flag("--from-all-namespaces", help="From pods of any namespace.")] = False,
    to_all_namespaces: Annotated[bool, flag("--to-all-namespaces", help="To pods of any namespace.")] = False,
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
    workload: Annotated[Texts, flag("--workload", metavar=WORKLOAD, help="From or to it.")] = None,
    from_workload: Annotated[Texts, flag("--from-workload", metavar=WORKLOAD, help="From the workload.")] = None,
    to_workload: Annotated[Texts, flag("--to-workload", metavar=WORKLOAD, help="To the workload.")] = None,
    cluster: Annotated[Texts, flag("--cluster", metavar="NAME", help="From or to the cluster.")] = None,
    from_cluster: Annotated[Texts, flag("--from-cluster", metavar="NAME", help="From the cluster.")] = None,
    to_cluster: Annotated[Texts, flag("--to-cluster", metavar="NAME", help="To the cluster.")] = None,
    protocol: Annotated[Texts, flag("--protocol", metavar="TEXT", help="tcp, udp, icmp, ...")] = None,
    tcp_flags: Annotated[Texts, flag("--tcp-flags", metavar="FLAGS", help="All of these: syn,ack.")] = None,
    ipv4: Annotated[bool, flag("--ipv4", "-4", help="IPv4 only.")] = False,
    ipv6: Annotated[bool, flag("--ipv6", "-6", help="IPv6 only.")] = False,
    ip_version: Annotated[Texts, flag("--ip-version", metavar="none|v4|v6", help="Of this IP version.")] = None,
    reply: Annotated[bool, flag("--reply", help="Replies only; with --not none of them.")] = False,
    traffic_direction: Annotated[
        Texts, flag("--traffic-direction", metavar="ingress|egress", help="As the pod sees it.")
    ] = None,
    drop_reason_desc: Annotated[Texts, flag("--drop-reason-desc", metavar="TEXT", help="As POLICY_DENIED.")] = None,
    node_name: Annotated[Texts, flag("--node-name", metavar="PATTERN", help="Reported by the node.")] = None,
    node_label: Annotated[Texts, flag("--node-label", metavar=LABEL, help="Reported by a node so labelled.")] = None,
    interface: Annotated[Texts, flag("--interface", metavar="NAME|INDEX", help="Come in at the interface.")] = None,
    encrypted: Annotated[bool, flag("--encrypted", help="Encrypted on the wire.")] = False,
    unencrypted: Annotated[bool, flag("--unencrypted", help="Not encrypted on the wire.")] = False,
    uuid: Annotated[Texts, flag("--uuid", metavar="TEXT", help="The one event.")] = None,
    service: Annotated[Texts, flag("--service", metavar=POD, help="Recorded flows: from or to the service.")] = None,
    from_service: Annotated[
        Texts, flag("--from-service", metavar=POD, help="Recorded flows: from the service.")
    ] = None,
    to_service: Annotated[Texts, flag("--to-service", metavar=POD, help="Recorded flows: to the service.")] = None,
    fqdn: Annotated[Texts, flag("--fqdn", metavar="PATTERN", help="Recorded flows: from or to the DNS name.")] = None,
    from_fqdn: Annotated[
        Texts, flag("--from-fqdn", metavar="PATTERN", help="Recorded flows: from the DNS name.")
    ] = None,
    to_fqdn: Annotated[Texts, flag("--to-fqdn", metavar="PATTERN", help="Recorded flows: to the DNS name.")] = None,
    snat_ip: Annotated[Texts, flag("--snat-ip", metavar=IP, help="Recorded flows: translated to it.")] = None,
    http_status: Annotated[
        Texts, flag("--http-status", metavar="CODE", help="Recorded flows: answered so; 5+ is 5xx.")
    ] = None,
    http_method: Annotated[Texts, flag("--http-method", metavar="METHOD", help="Recorded flows: so asked.")] = None,
    http_path: Annotated[Texts, flag("--http-path", metavar="REGEX", help="Recorded flows: for such a path.")] = None,
    http_url: Annotated[Texts, flag("--http-url", metavar="REGEX", help="Recorded flows: for such a URL.")] = None,
    http_header: Annotated[
        Texts, flag("--http-header", metavar="NAME:VALUE", help="Recorded flows: with the header.")
    ] = None,
    trace_id: Annotated[Texts, flag("--trace-id", metavar="TEXT", help="Recorded flows: of the trace.")] = None,
    ip_trace_id: Annotated[Texts, flag("--ip-trace-id", metavar="N", help="Recorded flows: so marked in IP.")] = None,
    cel_expression: Annotated[Texts, flag("--cel-expression", metavar="CEL", help="Not supported; refused.")] = None,
    allowlist: Annotated[Texts, flag("--allowlist", metavar="JSON", help="A flow filter as JSON.")] = None,
    denylist: Annotated[Texts, flag("--denylist", metavar="JSON", help="Hide what the filter matches.")] = None,
    print_raw_filters: Annotated[
        bool, flag("--print-raw-filters", help="Print the filters that the flags mean, and ask nobody.")
    ] = False,
    field_mask: Annotated[
        str, flag("--field-mask", metavar="PATHS", help="JSON with these fields only: time,source.identity.")
    ] = "",
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
    silent_errors: Annotated[
        bool, typer.Option("--silent-errors", "-s", help="Nodes that fail: only the exit code tells.")
    ] = False,
    lab: Lab = None,
    node: Node = None,
) -> None:
    """Show flows: who talked to whom, and what was dropped.

    Different filters have to match together; of one filter given twice, either. --not hides what the filter right
    behind it matches. Reads all nodes, oldest flow first.
    """
    from ciliumpy.flows.printers import Printer, Style

    flags = {**ctx.params, "type": ctx.params["kind"]}
    if cel_expression:
        raise refuse(
            "--cel-expression is not supported", "--allowlist and --denylist take any other filter of Hubble's"
        )
    request = requests.build(flags, time.time_ns(), whole=bool(input_file), negated=ctx.meta.get(META, ()))
    if print_raw_filters:
        sys.stdout.write(raw_text(request.whitelist, request.blacklist))
        return
    if not input_file:
        check_carried(flags)
    if field_mask or not input_file:
        requests.mask(request, field_mask, output, policies=print_policy_names)
    style = Style(
        color=_color(color),
        node_name=print_node_name,
        policy_names=print_policy_names,
        names=ip_translation and not numeric,
        time_format=time_format,
    )
    printer = Printer(output, style, sys.stdout, sys.stderr)
    if input_file:
        failures = replay(input_file, request, printer.write)
    else:
        errors = None if silent_errors else sys.stderr
        failures = show(request, target.select(lab, node), printer.write, flush=follow, errors=errors)
    printer.close()
    if failures:
        sys.stdout.flush()
        raise typer.Exit(1)


def _color(choice: str) -> bool:
    if choice not in ("auto", "always", "never"):
        raise refuse(f'invalid color mode "{choice}"', "auto, always or never")
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return choice == "always" or (choice == "auto" and sys.stdout.isatty() and not plain)
