# SPDX-License-Identifier: Apache-2.0
"""Flows as hubble prints them: compact lines, key-value blocks, an aligned table, JSON lines.

Names come from pods and from the wire, so control characters are made visible before they reach a terminal.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, TextIO

from ciliumpy.flows.jsonpb import to_json
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.drop_reasons import drop_text
from ciliumpy.model.identity import Reserved
from ciliumpy.model.trace_points import TRACE_POINTS
from ciliumpy.proto import event_pb2, flow_pb2, relay_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from ciliumpy.proto import observer_pb2

FORMATS = ("compact", "dict", "json", "jsonpb", "table")
GAP = 3

IDENTITY_NAMES = {int(identity): identity.label for identity in Reserved}
MATCH_NAMES = ("none", "L3-Only", "L3-L4", "L4-Only", "all", "L3-Proto", "Proto-Only")
SOCK_NAMES = {1: "pre-xlate-fwd", 2: "post-xlate-fwd", 3: "pre-xlate-rev", 4: "post-xlate-rev"}
DROP, CAPTURE, TRACE, POLICY_VERDICT, SOCK, L7 = 1, 3, 4, 5, 7, 129

COLORS = {"cyan": 36, "yellow": 33, "magenta": 35, "green": 32, "red": 31}
VERDICT_COLORS = {
    flow_pb2.FORWARDED: "green",
    flow_pb2.REDIRECTED: "green",
    flow_pb2.DROPPED: "red",
    flow_pb2.ERROR: "red",
    flow_pb2.AUDIT: "yellow",
    flow_pb2.TRACED: "yellow",
    flow_pb2.TRANSLATED: "yellow",
}

# Of the fields that every text format shows; what else they could show is in the second list.
TEXT_FIELDS = (
    "time",
    "verdict",
    "auth_type",
    "ethernet",
    "IP",
    "l4",
    "source.identity",
    "source.namespace",
    "source.pod_name",
    "destination.identity",
    "destination.namespace",
    "destination.pod_name",
    "source_names",
    "destination_names",
    "Type",
    "node_name",
    "l7",
    "event_type",
    "source_service",
    "destination_service",
    "traffic_direction",
    "policy_match_type",
    "is_reply",
    "debug_capture_point",
    "sock_xlate_point",
    "Summary",
    "ip_trace_id",
)
POLICY_FIELDS = ("egress_allowed_by", "ingress_allowed_by", "egress_denied_by", "ingress_denied_by")


class Style(NamedTuple):
    color: bool = False
    node_name: bool = False
    policy_names: bool = False
    names: bool = True  # rather than addresses
    time_format: str = "StampMilli"


def sanitize(text: str) -> str:
    """Return the text with control characters written as `^[` and the like."""
    if text.isprintable():
        return text
    return "".join(_visible(c) if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") else c for c in text)


def _visible(char: str) -> str:
    code = ord(char)
    if code < 32 or code == 127:
        return f"^{chr(code ^ 64)}"
    return f"\\u{code:04x}"


def _stamp(moment: datetime) -> str:
    return f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S}"


TIME_FORMATS: dict[str, Callable[[datetime, int], str]] = {
    "StampMilli": lambda moment, nanos: f"{_stamp(moment)}.{nanos // 10**6:03d}",
    "YearMonthDay": lambda moment, nanos: f"{moment:%Y-%m-%d}",  # noqa: ARG005
    "YearMonthDayHour": lambda moment, nanos: f"{moment:%Y-%m-%dT%H}Z",  # noqa: ARG005
    "YearMonthDayHourMinute": lambda moment, nanos: f"{moment:%Y-%m-%dT%H:%M}Z",  # noqa: ARG005
    "RFC3339": lambda moment, nanos: f"{moment:%Y-%m-%dT%H:%M:%S}Z",  # noqa: ARG005
    "RFC3339Milli": lambda moment, nanos: f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos // 10**6:03d}Z",
    "RFC3339Micro": lambda moment, nanos: f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos // 10**3:06d}Z",
    "RFC3339Nano": lambda moment, nanos: f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z",
    "RFC1123Z": lambda moment, nanos: f"{moment:%a, %d %b %Y %H:%M:%S} +0000",  # noqa: ARG005
}


def time_text(stamp: Timestamp, style: Style) -> str:
    """Return a time in UTC, as the server sent it."""
    if not (stamp.seconds or stamp.nanos):
        return "N/A"
    return TIME_FORMATS[style.time_format](datetime.fromtimestamp(stamp.seconds, UTC), stamp.nanos)


class Fields(NamedTuple):
    """The texts of one flow."""

    time: str
    node: str
    source: str
    source_identity: str
    destination: str
    destination_identity: str
    kind: str
    verdict: str
    summary: str
    arrow: str


class Painter:
    """Makes the texts of flows in one style."""

    def __init__(self, style: Style) -> None:
        self.style = style

    def fields(self, flow: flow_pb2.Flow) -> Fields:
        return Fields(
            time_text(flow.time, self.style),
            sanitize(flow.node_name),
            self.host(flow, "source"),
            self.identity(flow.source),
            self.host(flow, "destination"),
            self.identity(flow.destination),
            sanitize(type_text(flow)),
            self.verdict(flow),
            sanitize(summary_text(flow)),
            "<>" if not flow.HasField("is_reply") else "<-" if flow.is_reply.value else "->",
        )

    def host(self, flow: flow_pb2.Flow, side: str) -> str:
        """Return `ns/pod:port`, else the service, the DNS names or the address, with the port if there is one."""
        end = getattr(flow, side)
        address = getattr(flow.IP, side) or getattr(flow.ethernet, side)
        service = getattr(flow, f"{side}_service")
        name = ""
        if self.style.names:
            namespace = service.namespace or end.namespace
            if end.pod_name:
                name = f"{namespace}/{end.pod_name}" if namespace else end.pod_name
            elif service.name:
                name = f"{namespace}/{service.name}" if namespace else service.name
            else:
                name = ",".join(getattr(flow, f"{side}_names"))
        protocol = flow.l4.WhichOneof("protocol")
        port = getattr(getattr(flow.l4, protocol), f"{side}_port") if protocol in ("TCP", "UDP", "SCTP") else 0
        if not name:
            name = f"[{address}]" if port and ":" in address else address
        text = self.paint(sanitize(name), "cyan")
        return f"{text}:{self.paint(str(port), 'yellow')}" if port else text

    def identity(self, end: flow_pb2.Endpoint) -> str:
        name = IDENTITY_NAMES.get(end.identity)
        return self.paint(f"({name})" if name else f"(ID:{end.identity})", "magenta")

    def verdict(self, flow: flow_pb2.Flow) -> str:
        text = enum_name(flow_pb2.Verdict, flow.verdict)
        if flow.event_type.type == POLICY_VERDICT:
            words = {flow_pb2.FORWARDED: "ALLOWED", flow_pb2.REDIRECTED: "ALLOWED", flow_pb2.DROPPED: "DENIED"}
            text = "AUDITED" if flow.verdict == flow_pb2.AUDIT else words.get(flow.verdict, text)
        text = self.paint(text, VERDICT_COLORS.get(flow.verdict, ""))
        if self.style.policy_names:
            policies = [policy for name in POLICY_FIELDS for policy in getattr(flow, name)]
            if policies:
                text += " BY " + ", ".join(sanitize(f"{policy.name} ({policy.kind})") for policy in policies)
        return text

    def paint(self, text: str, color: str) -> str:
        return f"\x1b[{COLORS[color]}m{text}\x1b[0m" if self.style.color and color else text


def enum_name(enum: type, number: int) -> str:
    """Return the name; the number of one that we do not know yet."""
    try:
        return str(enum.Name(number))  # type: ignore[attr-defined]
    except ValueError:
        return str(number)


def type_text(flow: flow_pb2.Flow) -> str:
    kind, sub_type = flow.event_type.type, flow.event_type.sub_type
    if flow.HasField("l7") or kind == L7:
        record = flow.l7.WhichOneof("record") or "l7"
        name = {1: "request", 2: "response", 3: "sample"}.get(flow.l7.type, "unknown")
        source = f" {flow.l7.dns.observation_source}" if record == "dns" and flow.l7.dns.observation_source else ""
        return f"{record}-{name}{source}"
    if kind == TRACE:
        return TRACE_POINTS[sub_type] if 0 <= sub_type < len(TRACE_POINTS) else str(sub_type)
    if kind == DROP:
        return drop_text(sub_type)
    if kind == POLICY_VERDICT:
        match = flow.policy_match_type
        name = MATCH_NAMES[match] if match < len(MATCH_NAMES) else str(match)
        return f"policy-verdict:{name} {enum_name(flow_pb2.TrafficDirection, flow.traffic_direction)}"
    if kind == CAPTURE:
        return enum_name(flow_pb2.DebugCapturePoint, flow.debug_capture_point)
    if kind == SOCK:
        return SOCK_NAMES.get(flow.sock_xlate_point, enum_name(flow_pb2.SocketTranslationPoint, flow.sock_xlate_point))
    return "UNKNOWN"


def summary_text(flow: flow_pb2.Flow) -> str:
    text = flow.Summary
    if flow.HasField("ip_trace_id"):
        text = f"IP Trace ID: {flow.ip_trace_id.trace_id}; {text}"
    if flow.auth_type:
        text += f"; Auth: {enum_name(flow_pb2.AuthType, flow.auth_type)}"
    return text


class Printer:
    """Writes responses to `out` in one format; node states go to `err`. Call `close` at the end."""

    def __init__(self, form: str, style: Style, out: TextIO, err: TextIO) -> None:
        if form not in FORMATS:
            raise CiliumpyError(f'invalid output format "{form}"', f"one of {', '.join(FORMATS)}", exit_code=2)
        if style.time_format not in TIME_FORMATS:
            raise CiliumpyError(
                f'invalid time format "{style.time_format}"', f"one of {', '.join(TIME_FORMATS)}", exit_code=2
            )
        self._form = "json" if form == "jsonpb" else form
        self._style = style
        self._painter = Painter(style if form in ("compact", "dict") else style._replace(color=False))
        self._out = out
        self._err = err
        self._first = True
        self._rows: list[Sequence[str]] = []

    def write(self, response: observer_pb2.GetFlowsResponse) -> None:
        """Print one response; one that carries nothing is left out."""
        kind = response.WhichOneof("response_types")
        if self._form == "json" and kind is not None:
            (self._err if kind == "node_status" else self._out).write(to_json(response) + "\n")
        elif kind == "flow":
            getattr(self, f"_{self._form}")(self._painter.fields(response.flow))
        elif kind == "lost_events":
            self._lost(response)
        elif kind == "node_status":
            self._err.write(self._status(response) + "\n")

    def close(self) -> None:
        """Print what was held back: a table needs all its rows."""
        if self._form == "table" and self._rows:
            titles = ["TIMESTAMP", *(["NODE"] if self._style.node_name else []), "SOURCE", "DESTINATION", "TYPE"]
            rows = [[*titles, "VERDICT", "SUMMARY"], *self._rows]
            widths = [max(len(row[i]) for row in rows) + GAP for i in range(len(rows[0]) - 1)]
            for row in rows:
                cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
                self._out.write(("".join(cells) + row[-1]).rstrip() + "\n")
            self._rows.clear()

    def _compact(self, of: Fields) -> None:
        left, right = f"{of.source} {of.source_identity}", f"{of.destination} {of.destination_identity}"
        if of.arrow == "<-":
            left, right = right, left
        node = f" [{of.node}]" if self._style.node_name else ""
        self._out.write(f"{of.time}{node}: {left} {of.arrow} {right} {of.kind} {of.verdict} ({of.summary})\n")

    def _dict(self, of: Fields) -> None:
        lines = [("TIMESTAMP", of.time)]
        if self._style.node_name:
            lines.append(("NODE", of.node))
        lines += [
            ("SOURCE", of.source),
            ("DESTINATION", of.destination),
            ("TYPE", of.kind),
            ("VERDICT", of.verdict),
            ("SUMMARY", of.summary),
        ]
        self._separate()
        self._out.write("".join(f"{key:>11}: {value}\n" for key, value in lines))

    def _separate(self) -> None:
        if not self._first:
            self._out.write("------------\n")
        self._first = False

    def _table(self, of: Fields) -> None:
        node = [of.node] if self._style.node_name else []
        self._rows.append([of.time, *node, of.source, of.destination, of.kind, of.verdict, of.summary])

    def _lost(self, response: observer_pb2.GetFlowsResponse) -> None:
        lost = response.lost_events
        source = enum_name(event_pb2.LostEventSource, lost.source)
        moment = time_text(response.time, self._style)
        node = sanitize(response.node_name)
        if self._form == "compact":
            shown = f" [{node}]" if self._style.node_name else ""
            span = ""
            if lost.HasField("first") and lost.HasField("last"):
                first, last = time_text(lost.first, self._style), time_text(lost.last, self._style)
                span = f" (first: {first}, last: {last})"
            self._out.write(
                f"{moment}{shown}: EVENTS LOST: {source} CPU({lost.cpu.value}) {lost.num_events_lost}{span}\n"
            )
        elif self._form == "dict":
            self._separate()
            lines = [("TIMESTAMP", moment), ("TYPE", "EVENTS LOST"), ("SOURCE", source)]
            summary = f"CPU({lost.cpu.value}) - {lost.num_events_lost}"
            self._out.write("".join(f"{key:>11}: {value}\n" for key, value in [*lines, ("SUMMARY", summary)]))
        else:
            cells = [moment, *([node] if self._style.node_name else []), source, "", "EVENTS LOST", ""]
            self._rows.append([*cells, f"CPU({lost.cpu.value}) - {lost.num_events_lost}"])

    def _status(self, response: observer_pb2.GetFlowsResponse) -> str:
        state = response.node_status
        names = sanitize(", ".join(state.node_names))
        head = f"{time_text(response.time, self._style)} [{sanitize(response.node_name)}]: "
        if state.state_change == relay_pb2.NODE_UNAVAILABLE:
            return f"{head}{len(state.node_names)} nodes are unavailable: {names}"
        if state.state_change == relay_pb2.NODE_ERROR:
            return f'{head}Error "{sanitize(state.message)}" on {len(state.node_names)} nodes: {names}'
        return f"{head}Receiving flows from {len(state.node_names)} nodes: {names}"
