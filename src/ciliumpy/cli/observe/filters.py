# SPDX-License-Identifier: Apache-2.0
"""From observe's flags to Hubble's filters.

Each flag feeds two filters. A flag without direction means the source in the left one and the destination in the right
one; a flow has to match either. If both say the same, one is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.trace_points import TRACE_POINTS

if TYPE_CHECKING:
    from ciliumpy.proto.flow_pb2 import FlowFilter

FEW = 12  # names that an error may list
# Flags that have a from- and a to- variant: the field's name behind source_ and destination_.
SIDED = {
    "pod": "pod",
    "label": "label",
    "identity": "identity",
    "ip": "ip",
    "port": "port",
    "workload": "workload",
    "service": "service",
    "fqdn": "fqdn",
    "cluster": "cluster_name",
}
BOTH = {
    "uuid": "uuid",
    "verdict": "verdict",
    "drop_reason_desc": "drop_reason_desc",
    "type": "event_type",
    "protocol": "protocol",
    "tcp_flags": "tcp_flags",
    "traffic_direction": "traffic_direction",
    "ip_version": "ip_version",
    "node_name": "node_name",
    "node_label": "node_labels",
    "interface": "interface",
    "reply": "reply",
    "encrypted": "encrypted",
    "snat_ip": "source_ip_xlated",
    "http_status": "http_status_code",
    "http_method": "http_method",
    "http_path": "http_path",
    "http_url": "http_url",
    "http_header": "http_header",
    "trace_id": "trace_id",
    "ip_trace_id": "ip_trace_id",
}
NAMESPACES = tuple(f"{side}{name}" for side in ("", "from_", "to_") for name in ("namespace", "all_namespaces"))
CONFLICTS = (
    *(
        (
            f"{side}-fqdn",
            f"{side}-ip",
            "ip",
            "fqdn",
            f"{side}-namespace",
            "namespace",
            f"{side}-all-namespaces",
            "all-namespaces",
        )
        for side in ("from", "to")
    ),
    *((f"{side}-fqdn", f"{side}-ip", "ip", "fqdn", f"{side}-pod", "pod") for side in ("from", "to")),
    *((f"{side}-{name}", "namespace", "all-namespaces") for name in ("pod", "service") for side in ("to", "from")),
    *(
        (name, f"{side}-{name}")
        for name in ("label", "service", "port", "identity", "workload", "cluster")
        for side in ("from", "to")
    ),
    ("encrypted", "unencrypted"),
)
# What flows of our agents do not carry. A recorded flow of another Hubble server may.
ABSENT = {
    **dict.fromkeys(("http_status", "http_method", "http_path", "http_url", "http_header"), "requests of HTTP"),
    **dict.fromkeys(("fqdn", "from_fqdn", "to_fqdn"), "DNS names"),
    **dict.fromkeys(("service", "from_service", "to_service"), "services"),
    "snat_ip": "translated addresses",
    "trace_id": "trace ids",
    "ip_trace_id": "trace ids",
}
EVENT_TYPES = {
    "drop": 1,
    "debug": 2,
    "capture": 3,
    "trace": 4,
    "policy-verdict": 5,
    "trace-sock": 7,
    "l7": 129,
    "agent": 130,
}

Flags = Mapping[str, Sequence[Any]]


def refuse(message: str, hint: str | None = None) -> CiliumpyError:
    return CiliumpyError(message, hint, exit_code=2)


def is_filter(flag: str) -> bool:
    """Tell whether a parameter of the command says which flows are meant; only before such a one may --not stand."""
    plain = flag.removeprefix("from_").removeprefix("to_")
    return plain in SIDED or flag in BOTH or flag in NAMESPACES or flag in ("ipv4", "ipv6", "unencrypted")


def check_carried(flags: Flags) -> None:
    """Refuse a filter for what no flow of an agent has: its empty answer would look like an answer."""
    for flag, what in ABSENT.items():
        if flags.get(flag):
            raise refuse(
                f"--{flag.replace('_', '-')}: the flows of these agents carry no {what}",
                "with --input-file it filters recorded flows that do",
            )


def build(flags: Flags) -> list[FlowFilter]:
    """Return the list of filters that the flags mean: none, one or two. Flags by parameter name, absent ones empty.

    Raises CiliumpyError for values that mean nothing and for flags that contradict each other.
    """
    given = {name.replace("_", "-") for name, values in flags.items() if values}
    flags = {
        **flags,
        "encrypted": [*([True] if flags.get("encrypted") else []), *([False] if flags.get("unencrypted") else [])],
    }
    for group in CONFLICTS:
        both = [name for name in group if name in given]
        if len(both) > 1:
            raise refuse(f"filters --{both[0]} and --{both[1]} cannot be combined")
    left, right = _fields(flags, "source"), _fields(flags, "destination")
    _fold_namespaces(flags, left, right)
    made = [_filter(fields) for fields in (left, right)]
    made = [each for each in made if each.ListFields()]
    return made[:1] if len(made) == 2 and made[0] == made[1] else made


def _fields(flags: Flags, side: str) -> dict[str, list[Any]]:
    """Return the fields of the left (side source) or right filter, without namespaces."""
    fields: dict[str, list[Any]] = {}
    for flag, field in BOTH.items():
        if values := flags.get(flag):
            fields[field] = [PARSERS[flag](value) if flag in PARSERS else value for value in values]
    for flag, field in SIDED.items():
        for name, where in ((flag, side), (f"from_{flag}", "source"), (f"to_{flag}", "destination")):
            for value in flags.get(name, ()):
                fields.setdefault(f"{where}_{field}", []).append(PARSERS[flag](value) if flag in PARSERS else value)
    return fields


def _fold_namespaces(flags: Flags, left: dict[str, list[Any]], right: dict[str, list[Any]]) -> None:
    for fields, side in ((left, "source"), (right, "destination")):
        for flag, where in (("", side), ("from_", "source"), ("to_", "destination")):
            namespaces = [name.removesuffix("/") for name in flags.get(f"{flag}namespace", ())]
            if flags.get(f"{flag}all_namespaces"):
                namespaces = [""]
            if namespaces:
                if fields.get(f"{where}_service"):
                    _fold(fields, f"{where}_service", namespaces)
                if fields.get(f"{where}_pod") or not fields.get(f"{where}_service"):
                    _fold(fields, f"{where}_pod", namespaces)


def _fold(fields: dict[str, list[Any]], pods: str, namespaces: Sequence[str]) -> None:
    """Prefix the names of one end with the namespaces; without names, any pod of them is meant."""
    folded = [] if fields.get(pods) else [f"{namespace}/" for namespace in namespaces if namespace]
    for name in fields.get(pods, ()):
        if "/" not in name:
            folded += [f"{namespace}/{name}" for namespace in namespaces]
        elif "" in namespaces or name.partition("/")[0] in namespaces:
            folded.append(name)
        else:
            raise refuse(f'namespace conflict: "{", ".join(namespaces)}" does not contain "{name}"')
    fields[pods] = folded


def _filter(fields: Mapping[str, Sequence[Any]]) -> FlowFilter:
    from ciliumpy.proto.flow_pb2 import FlowFilter

    made = FlowFilter()
    for name, values in fields.items():
        getattr(made, name).extend(values)
    return made


# Values that are not sent as they are written.


def _event_type(text: str) -> Any:
    from ciliumpy.proto.flow_pb2 import EventTypeFilter

    name, colon, sub = text.partition(":")
    number = EVENT_TYPES.get(name.lower())
    if number is None:
        if not name.isdecimal() or int(name) > 255:
            raise refuse(f'unknown event type "{name}"', f"one of {', '.join(EVENT_TYPES)}, or a number")
        number = int(name)
    if not colon:
        return EventTypeFilter(type=number)
    if sub.isdecimal():
        return EventTypeFilter(type=number, match_sub_type=True, sub_type=int(sub))
    if number == EVENT_TYPES["trace"] and sub in TRACE_POINTS:
        return EventTypeFilter(type=number, match_sub_type=True, sub_type=TRACE_POINTS.index(sub))
    raise refuse(
        f'unknown event sub-type "{sub}" of {name}', f"trace has {', '.join(TRACE_POINTS)}; others have numbers"
    )


def _which(text: str, known: list[str], what: str) -> str:
    """Return the hint for a name that is none: all there are if they are few, else those that are near."""
    if len(known) <= FEW:
        return f"one of {', '.join(known)}"
    import difflib

    near = difflib.get_close_matches(text.upper(), known)
    return f"did you mean {' or '.join(near)}?" if near else f"docs/reference/{what.replace(' ', '-')}s.md lists them"


def _enum(name: str, what: str, first: int = 1) -> Any:
    def parse(text: str) -> int:
        from ciliumpy.proto import flow_pb2

        values = dict(getattr(flow_pb2, name).items())
        if text.upper() not in values:
            raise refuse(f'unknown {what} "{text}"', _which(text, [k for k, n in values.items() if n >= first], what))
        return int(values[text.upper()])

    return parse


def _identity(text: str) -> int:
    from ciliumpy.model.identity import parse_identity

    try:
        return parse_identity(text)
    except ValueError:
        raise refuse(f'invalid identity "{text}"', "a number, or a reserved name such as world") from None


def _tcp_flags(text: str) -> Any:
    from ciliumpy.proto.flow_pb2 import TCPFlags

    names = [name.strip().upper() for name in text.split(",")]
    unknown = [name for name in names if name not in TCPFlags.DESCRIPTOR.fields_by_name]
    if unknown:
        raise refuse(
            f'invalid TCP flag "{unknown[0].lower()}"',
            f"one or more of {', '.join(TCPFlags.DESCRIPTOR.fields_by_name).lower()}",
        )
    return TCPFlags(**dict.fromkeys(names, True))


def _workload(text: str) -> Any:
    from ciliumpy.proto.flow_pb2 import Workload

    kind, slash, name = text.partition("/")
    return Workload(kind=kind, name=name) if slash else Workload(name=text)


def _ip(text: str) -> str:
    """Spell an address as flows do: the server compares text."""
    from ipaddress import ip_address

    try:
        return text if "/" in text else str(ip_address(text))
    except ValueError:
        raise refuse(f'invalid IP address "{text}"') from None


def _interface(text: str) -> Any:
    from ciliumpy.proto.flow_pb2 import NetworkInterface

    return NetworkInterface(index=int(text)) if text.isdecimal() else NetworkInterface(name=text)


def _header(text: str) -> Any:
    from ciliumpy.proto.flow_pb2 import HTTPHeader

    key, colon, value = text.partition(":")
    if not colon:
        raise refuse(f'invalid HTTP header "{text}"', "as Name:value")
    return HTTPHeader(key=key, value=value.strip())


def _ip_version(text: str | int) -> int:
    versions = {"none": 0, "v4": 1, "v6": 2, "ipv4": 1, "ipv6": 2}
    if isinstance(text, int):
        return text
    if text.lower() not in versions:
        raise refuse(f'unknown IP version "{text}"', "v4, v6 or none")
    return versions[text.lower()]


def _trace_number(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 64:
        raise refuse(f'invalid IP trace id "{text}"', "a number above 0")
    return int(text)


PARSERS = {
    "interface": _interface,
    "http_header": _header,
    "ip_version": _ip_version,
    "ip_trace_id": _trace_number,
    "reply": bool,
    "verdict": _enum("Verdict", "verdict"),
    "drop_reason_desc": _enum("DropReason", "drop reason"),
    "traffic_direction": _enum("TrafficDirection", "traffic direction"),
    "type": _event_type,
    "identity": _identity,
    "tcp_flags": _tcp_flags,
    "workload": _workload,
    "ip": _ip,
    "snat_ip": _ip,
}


def raw_text(whitelist: Sequence[FlowFilter], blacklist: Sequence[FlowFilter]) -> str:
    """Return the filters as YAML of JSON texts, which a Hubble exporter's configuration takes as it is."""
    from ciliumpy.flows.jsonpb import to_json

    text = ""
    for name, made in (("allowlist", whitelist), ("denylist", blacklist)):
        if made:
            text += f"{name}:\n" + "".join("- '{}'\n".format(to_json(each).replace("'", "''")) for each in made)
    return text


def parse_raw(texts: Sequence[str], what: str) -> list[FlowFilter]:
    """Read filters written as JSON, several after one another in a text."""
    import json

    from google.protobuf import json_format

    from ciliumpy.proto.flow_pb2 import FlowFilter

    found = []
    decoder = json.JSONDecoder()
    for text in texts:
        rest = text.strip()
        while rest:
            try:
                value, end = decoder.raw_decode(rest)
                found.append(json_format.ParseDict(value, FlowFilter()))
            except (ValueError, json_format.ParseError) as error:
                raise refuse(f"--{what}: not a flow filter: {error}") from None
            rest = rest[end:].lstrip()
    return found
