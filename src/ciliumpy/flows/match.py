# SPDX-License-Identifier: Apache-2.0
"""FlowFilter over finished flows, for recorded files of any Hubble server: the language of filters.py, every field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from ciliumpy.flows import patterns
from ciliumpy.proto import flow_pb2

Test = Callable[[flow_pb2.Flow], bool]


class FlowPredicate:
    """A whitelist and a blacklist. CiliumpyError if a filter means nothing."""

    def __init__(
        self, whitelist: Iterable[flow_pb2.FlowFilter] = (), blacklist: Iterable[flow_pb2.FlowFilter] = ()
    ) -> None:
        self._whitelist = [tests(each) for each in whitelist]
        self._blacklist = [tests(each) for each in blacklist]

    def __call__(self, flow: flow_pb2.Flow) -> bool:
        wanted = not self._whitelist or any(all(test(flow) for test in each) for each in self._whitelist)
        return wanted and not any(all(test(flow) for test in each) for each in self._blacklist)


def tests(wanted: flow_pb2.FlowFilter) -> list[Test]:
    """Return the tests that a flow has to pass, all of them."""
    patterns.check(wanted)
    found: list[Test] = []
    for name, builder in BUILDERS.items():
        if values := getattr(wanted, name):
            found.append(builder(values))
    for side in ("source", "destination"):
        for name, side_builder in SIDE_BUILDERS.items():
            if values := getattr(wanted, f"{side}_{name}"):
                found.append(side_builder(side, values))
    return found


def _equal(name: str) -> Callable[[Any], Test]:
    return lambda values: lambda flow: getattr(flow, name) in values


def _event_type(values: Sequence[flow_pb2.EventTypeFilter]) -> Test:
    def test(flow: flow_pb2.Flow) -> bool:
        kind = flow.event_type
        return flow.HasField("event_type") and any(
            each.type in (0, kind.type) and (not each.match_sub_type or each.sub_type == kind.sub_type)
            for each in values
        )

    return test


def _reply(values: Sequence[bool]) -> Test:
    def test(flow: flow_pb2.Flow) -> bool:
        if not flow.HasField("is_reply"):
            return flow.verdict == flow_pb2.DROPPED and False in values
        return flow.is_reply.value in values

    return test


def _protocol(values: Sequence[str]) -> Test:
    names = {name for text in values for name in patterns.protocol(text)}
    return lambda flow: flow.l4.WhichOneof("protocol") in names or flow.l7.WhichOneof("record") in names


def _tcp_flags(values: Sequence[flow_pb2.TCPFlags]) -> Test:
    wanted = [[name for name in each.DESCRIPTOR.fields_by_name if getattr(each, name)] for each in values]

    def test(flow: flow_pb2.Flow) -> bool:
        if not flow.l4.HasField("TCP") or not flow.l4.TCP.HasField("flags"):
            return False
        return any(all(getattr(flow.l4.TCP.flags, name) for name in names) for names in wanted)

    return test


def _interface(values: Sequence[flow_pb2.NetworkInterface]) -> Test:
    return lambda flow: (
        flow.HasField("interface")
        and any(each.index in (0, flow.interface.index) and each.name in ("", flow.interface.name) for each in values)
    )


def _node_labels(values: Sequence[str]) -> Test:
    selectors = [patterns.label_selector(text, "node label") for text in values]
    return lambda flow: any(s.matches(patterns.labels_of(flow.node_labels)) for s in selectors)


def _node_name(values: Sequence[str]) -> Test:
    matches = patterns.node_patterns(values)
    return lambda flow: matches(flow.node_name)


def _dns_query(values: Sequence[str]) -> Test:
    wanted = patterns.regexps(values, "DNS query")
    return lambda flow: flow.l7.HasField("dns") and any(w.search(flow.l7.dns.query) for w in wanted)


def _http(matches: Callable[[flow_pb2.HTTP], bool]) -> Test:
    return lambda flow: flow.l7.HasField("http") and matches(flow.l7.http)


def _http_status(values: Sequence[str]) -> Test:
    wanted = [patterns.http_status(text) for text in values]
    return _http(lambda http: any(w(http.code) for w in wanted))


def _http_path(values: Sequence[str]) -> Test:
    wanted = patterns.regexps(values, "http path")

    def matches(http: flow_pb2.HTTP) -> bool:
        try:
            path = urlsplit(http.url).path
        except ValueError:
            return False
        return any(w.search(path) for w in wanted)

    return _http(matches)


def _http_url(values: Sequence[str]) -> Test:
    wanted = patterns.regexps(values, "http url")
    return _http(lambda http: any(w.search(http.url) for w in wanted))


def _http_method(values: Sequence[str]) -> Test:
    wanted = {text.lower() for text in values}
    return _http(lambda http: http.method.lower() in wanted)


def _http_header(values: Sequence[flow_pb2.HTTPHeader]) -> Test:
    wanted = {(each.key, each.value) for each in values}
    return _http(lambda http: any((each.key, each.value) in wanted for each in http.headers))


def _xlated(values: Sequence[str]) -> Test:
    wanted = [patterns.address_pattern(text) for text in values]
    return lambda flow: any(w.matches(flow.IP.source_xlated) for w in wanted)


BUILDERS: dict[str, Callable[[Any], Test]] = {
    "uuid": _equal("uuid"),
    "event_type": _event_type,
    "verdict": _equal("verdict"),
    "drop_reason_desc": lambda values: (
        lambda flow: flow.verdict == flow_pb2.DROPPED and flow.drop_reason_desc in values
    ),
    "reply": _reply,
    "encrypted": lambda values: lambda flow: flow.IP.encrypted in values,
    "protocol": _protocol,
    "tcp_flags": _tcp_flags,
    "ip_version": lambda values: lambda flow: flow.IP.ipVersion in values,
    "traffic_direction": _equal("traffic_direction"),
    "interface": _interface,
    "node_name": _node_name,
    "node_labels": _node_labels,
    "dns_query": _dns_query,
    "http_status_code": _http_status,
    "http_method": _http_method,
    "http_path": _http_path,
    "http_url": _http_url,
    "http_header": _http_header,
    "source_ip_xlated": _xlated,
    "trace_id": lambda values: (
        lambda flow: flow.HasField("trace_context") and flow.trace_context.parent.trace_id in values
    ),
    "ip_trace_id": lambda values: lambda flow: flow.HasField("ip_trace_id") and flow.ip_trace_id.trace_id in values,
}


# One end of a flow.


def _identity(side: str, values: Sequence[int]) -> Test:
    return lambda flow: getattr(flow, side).identity in values


def _ip(side: str, values: Sequence[str]) -> Test:
    wanted = [patterns.address_pattern(text) for text in values]
    return lambda flow: any(w.matches(getattr(flow.IP, side)) for w in wanted)


def _port(side: str, values: Sequence[str]) -> Test:
    numbers = {patterns.port(text, side) for text in values}

    def test(flow: flow_pb2.Flow) -> bool:
        kind = flow.l4.WhichOneof("protocol")
        return kind in ("TCP", "UDP", "SCTP") and getattr(getattr(flow.l4, kind), f"{side}_port") in numbers

    return test


def _pod(side: str, values: Sequence[str]) -> Test:
    wanted = [patterns.name_pattern(text) for text in values]

    def test(flow: flow_pb2.Flow) -> bool:
        end = getattr(flow, side)
        return any(w.matches(end.namespace, end.pod_name) for w in wanted)

    return test


def _service(side: str, values: Sequence[str]) -> Test:
    wanted = [patterns.name_pattern(text) for text in values]

    def test(flow: flow_pb2.Flow) -> bool:
        service = getattr(flow, f"{side}_service")
        return any(w.matches(service.namespace, service.name) for w in wanted)

    return test


def _workload(side: str, values: Sequence[flow_pb2.Workload]) -> Test:
    return lambda flow: any(
        each.kind in ("", have.kind) and each.name in ("", have.name)
        for each in values
        for have in getattr(flow, side).workloads
    )


def _label(side: str, values: Sequence[str]) -> Test:
    selectors = [patterns.label_selector(text, f"{side} label") for text in values]
    return lambda flow: any(s.matches(patterns.labels_of(getattr(flow, side).labels)) for s in selectors)


def _fqdn(side: str, values: Sequence[str]) -> Test:
    pattern = patterns.fqdn_patterns(values, f"{side} fqdn")
    return lambda flow: any(pattern.match(name) for name in getattr(flow, f"{side}_names"))


def _cluster(side: str, values: Sequence[str]) -> Test:
    return lambda flow: getattr(flow, side).cluster_name in values


SIDE_BUILDERS: dict[str, Callable[[str, Any], Test]] = {
    "identity": _identity,
    "ip": _ip,
    "port": _port,
    "pod": _pod,
    "service": _service,
    "workload": _workload,
    "label": _label,
    "fqdn": _fqdn,
    "cluster_name": _cluster,
}
