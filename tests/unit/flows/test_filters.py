# SPDX-License-Identifier: Apache-2.0
"""The filter language: masks over columns say what a walk over finished flows says; values mean what Hubble means."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciliumpy.flows import columns, patterns
from ciliumpy.flows.enrich import Enricher
from ciliumpy.flows.filters import FlowMatcher
from ciliumpy.flows.match import FlowPredicate
from ciliumpy.flows.names import Names
from ciliumpy.flows.to_flow import FlowMaker
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.labels import parse
from ciliumpy.proto.flow_pb2 import EventTypeFilter, Flow, FlowFilter, NetworkInterface, TCPFlags, Workload
from tests.soak import scaled
from tests.unit.flows import events
from tests.unit.flows.events import (
    AGGREGATE,
    ALLOWED,
    API,
    API_IP,
    API_IP6,
    DEFAULT_DENIED,
    DENIED,
    DROP,
    FRONTEND,
    FRONTEND_IP,
    FRONTEND_IP6,
    REPLY,
    REPLY_UNKNOWN,
    TO_HOST,
    TO_LOCAL,
    VISITOR,
    VISITOR_IP,
    WORLD_IP,
    event,
)

NODE, NODE_LABELS = "default/n1", ("zone=a", "disk=ssd")


def corpus():
    names = Names()
    records = events.block(
        event(ingress=(7, 0, 0, ALLOWED), egress=(7, 0, 0, ALLOWED)),
        event(AGGREGATE, API_IP, FRONTEND_IP, src_identity=API, dst_identity=FRONTEND, flags=TO_LOCAL | REPLY),
        event(AGGREGATE, FRONTEND_IP6, API_IP6, tcp_flags=18, seq=1),
        event(AGGREGATE, WORLD_IP, API_IP, src_identity=9, src_endpoint=0, flags=TO_HOST | REPLY_UNKNOWN, cpu=3),
        event(AGGREGATE, protocol=17, dport=53, ktime=77),
        event(AGGREGATE, protocol=1, sport=8, dport=0, ifindex=0),
        event(AGGREGATE, FRONTEND_IP6, API_IP6, protocol=58, sport=128, dport=0),
        event(AGGREGATE, protocol=132, dport=8080),
        event(AGGREGATE, protocol=47),
        event(
            DROP,
            VISITOR_IP,
            API_IP,
            src_identity=VISITOR,
            src_endpoint=0,
            reason=133,
            ingress=(0, 0, 0, DEFAULT_DENIED),
        ),
        event(DROP, VISITOR_IP, API_IP, src_identity=VISITOR, src_endpoint=0, reason=181, ingress=(7, 0, 0, DENIED)),
        event(DROP, API_IP, VISITOR_IP, reason=132, src_endpoint=5),
    )
    rows = Enricher(events.cluster(), names).rows(records, 10**18)
    return names, rows, [FlowMaker(names, NODE, NODE_LABELS).flow(row) for row in rows]


NAMES, ROWS, FLOWS = corpus()
UUIDS = [flow.uuid for flow in FLOWS]

PODS = ["shop/", "shop/api", "shop/api-1", "api", "/visitor", "guest/", "default/x", "/"]
IPS = [
    API_IP,
    FRONTEND_IP6,
    "10.244.0.0/16",
    "0.0.0.0/0",
    "::/0",
    "fd00:10:244::/48",
    "10.244.1.9/8",
    "FD00::1",
    WORLD_IP,
]
LABELS = [
    "tier=api",
    "k8s:tier=api",
    "tier!=api",
    "tier",
    "!tier",
    "tier in (api, frontend),k8s:tier",
    "reserved:world-ipv4",
    "any:app=visitor",
]

some = lambda values: st.lists(st.sampled_from(values), max_size=2)  # noqa: E731
FILTERS = st.builds(
    FlowFilter,
    source_ip=some(IPS),
    destination_ip=some(IPS),
    source_pod=some(PODS),
    destination_pod=some(PODS),
    verdict=some([1, 2, 4, 5]),
    event_type=some(
        [
            EventTypeFilter(type=1),
            EventTypeFilter(type=4, match_sub_type=True),
            EventTypeFilter(type=4, match_sub_type=True, sub_type=3),
            EventTypeFilter(type=5),
            EventTypeFilter(),
        ]
    ),
    source_label=some(LABELS),
    destination_label=some(LABELS),
    protocol=some(["tcp", "UDP", "icmp", "icmpv6", "sctp", "dns", "http", "vrrp"]),
    source_port=some(["40000", "8"]),
    destination_port=some(["8080", "53", "0"]),
    reply=some([True, False]),
    source_identity=some([FRONTEND, API, VISITOR, 9]),
    destination_identity=some([FRONTEND, API, VISITOR, 0]),
    tcp_flags=some([TCPFlags(SYN=True), TCPFlags(SYN=True, ACK=True), TCPFlags(), TCPFlags(NS=True)]),
    node_name=some(["n1", "default/*", "other/n1", "/n1", "*2"]),
    node_labels=some(["zone=a", "zone=b", "disk"]),
    ip_version=some([0, 1, 2]),
    source_workload=some([Workload(name="frontend"), Workload(kind="Deployment"), Workload(kind="Job"), Workload()]),
    destination_workload=some([Workload(name="frontend"), Workload(kind="Deployment")]),
    uuid=some([*UUIDS, "f0000000-0000-4000-8000-000000000000", "x"]),
    traffic_direction=some([0, 1, 2]),
    drop_reason_desc=some([0, 133, 181]),
    interface=some(
        [
            NetworkInterface(index=11),
            NetworkInterface(name="lxc000000000005"),
            NetworkInterface(),
            NetworkInterface(name="x"),
        ]
    ),
    source_cluster_name=some(["default", "other"]),
    destination_cluster_name=some(["default", "other"]),
    encrypted=some([True, False]),
    source_fqdn=some(["*.example.org"]),
    source_ip_xlated=some([API_IP]),
    source_service=some(["shop/"]),
    http_status_code=some(["404"]),
    dns_query=some(["."]),
    trace_id=some(["1"]),
    ip_trace_id=some([1]),
)
FIELDS = [field.name for field in FlowFilter.DESCRIPTOR.fields if field.name != "experimental"]


@st.composite
def sparse(draw):
    """A filter with few fields set: with all of them nothing would ever pass."""
    full = draw(FILTERS)
    kept = draw(st.lists(st.sampled_from(FIELDS), max_size=3))
    made = FlowFilter()
    for name in kept:
        getattr(made, name).extend(getattr(full, name)[:2])
    if any(made.event_type) and made.http_status_code:
        made.ClearField("http_status_code")
    return made


@settings(max_examples=scaled(300))
@given(st.lists(sparse(), max_size=3), st.lists(sparse(), max_size=2))
def test_masks_are_what_the_finished_flows_say(whitelist, blacklist):
    matcher = FlowMatcher(whitelist, blacklist, NAMES, NODE, NODE_LABELS)
    predicate = FlowPredicate(whitelist, blacklist)
    assert matcher.mask(ROWS).tolist() == [predicate(flow) for flow in FLOWS]


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_judged_alike_alone(field):
    """One value at a time, so that a field nobody implements is seen: it would pass everything."""
    values = {
        "source_ip": IPS[:1],
        "destination_ip": IPS[:1],
        "source_ip_xlated": IPS[:1],
        "source_pod": PODS[:1],
        "destination_pod": PODS[5:6],
        "source_label": LABELS,
        "destination_label": LABELS,
        "verdict": [1, 2, 3],
        "event_type": [EventTypeFilter(type=1), EventTypeFilter(type=129)],
        "reply": [True, False],
        "encrypted": [True],
        "ip_version": [1, 2],
        "traffic_direction": [1, 2],
        "drop_reason_desc": [133],
        "source_identity": [FRONTEND],
        "destination_identity": [API],
        "source_port": ["40000"],
        "destination_port": ["53"],
        "protocol": ["udp"],
        "tcp_flags": [TCPFlags(ACK=True)],
        "uuid": UUIDS[:1],
        "interface": [NetworkInterface(index=11)],
        "source_workload": [Workload(name="frontend")],
        "destination_workload": [Workload(name="frontend")],
        "http_status_code": ["200"],
        "http_header": None,
        "ip_trace_id": [7],
        "node_name": ["n2"],
        "node_labels": ["zone=b"],
    }.get(field, ["x"])
    if values is None:
        values = [FlowFilter(http_header=[{"key": "a", "value": "b"}]).http_header[0]]
    for value in values:
        wanted = FlowFilter(**{field: [value]})
        mask = FlowMatcher([wanted], [], NAMES, NODE, NODE_LABELS).mask(ROWS)
        assert mask.tolist() == [FlowPredicate([wanted])(flow) for flow in FLOWS]
    assert not mask.all()


def test_an_empty_filter_matches_everything_also_to_hide_it():
    assert FlowMatcher([FlowFilter()], [], NAMES).mask(ROWS).all()
    assert not FlowMatcher([], [FlowFilter()], NAMES).mask(ROWS).any()
    assert not FlowPredicate([], [FlowFilter()])(FLOWS[0])


def test_a_loss_passes_every_filter():
    loss = columns.loss(1, 1, columns.LOST_IN_KERNEL)
    assert FlowMatcher([FlowFilter(verdict=[2])], [FlowFilter()], NAMES).mask(loss).all()


def test_only_recorded_flows_have_layer_seven():
    flow = Flow(source_names=["a.example.org"])
    flow.l7.http.code = 404
    flow.l7.http.method = "GET"
    flow.l7.http.url = "http://shop/v1/cart?x=1"
    flow.l7.http.headers.add(key="Host", value="shop")
    flow.event_type.type = 129
    flow.trace_context.parent.trace_id = "t"
    for wanted, answer in [
        (FlowFilter(http_status_code=["4+"]), True),
        (FlowFilter(http_status_code=["40+", "500"]), True),
        (FlowFilter(http_status_code=["5+"]), False),
        (FlowFilter(http_method=["get"]), True),
        (FlowFilter(http_path=["^/v1/cart$"]), True),
        (FlowFilter(http_path=["x=1"]), False),
        (FlowFilter(http_url=["x=1"]), True),
        (FlowFilter(http_header=[{"key": "Host", "value": "shop"}]), True),
        (FlowFilter(http_header=[{"key": "host", "value": "shop"}]), False),
        (FlowFilter(protocol=["http"]), True),
        (FlowFilter(protocol=["dns"]), False),
        (FlowFilter(trace_id=["t"]), True),
        (FlowFilter(source_fqdn=["*.example.org"]), True),
        (FlowFilter(source_fqdn=["example.org"]), False),
        (FlowFilter(dns_query=["."]), False),
        (FlowFilter(event_type=[EventTypeFilter(type=129)], http_method=["GET"]), True),
    ]:
        assert FlowPredicate([wanted])(flow) is answer, wanted


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (FlowFilter(source_ip=["10.0.0.0/33"]), "invalid IP prefix"),
        (FlowFilter(destination_ip=["x"]), "invalid IP address"),
        (FlowFilter(source_pod=[""]), "name must not be empty"),
        (FlowFilter(source_port=["80-90"]), "invalid source port filter"),
        (FlowFilter(destination_port=["65536"]), "invalid destination port filter"),
        (FlowFilter(protocol=["quic"]), 'unknown protocol: "quic"'),
        (FlowFilter(source_label=["a in (b"]), "invalid source label filter"),
        (FlowFilter(destination_label=["a b"]), "invalid destination label filter"),
        (FlowFilter(node_labels=["="]), "invalid node label filter"),
        (FlowFilter(node_name=["a/b/c"]), "too many slashes"),
        (FlowFilter(node_name=["n_ 1"]), "invalid rune"),
        (FlowFilter(source_fqdn=["a.."]), "multiple trailing dots"),
        (FlowFilter(destination_fqdn=[" "]), "empty pattern"),
        (FlowFilter(dns_query=["("]), "failed to compile regexp"),
        (FlowFilter(http_path=["["]), "failed to compile regexp"),
        (FlowFilter(http_status_code=["6+"]), "invalid status code prefix"),
        (FlowFilter(http_method=["GET"], event_type=[EventTypeFilter(type=4)]), "requires the event type filter"),
        (FlowFilter(source_cluster_name=[""]), "must not be empty"),
        (FlowFilter(experimental={"cel_expression": ["true"]}), "experimental.cel_expression"),
    ],
)
def test_what_means_nothing_is_refused_by_both(wanted, words):
    for build in (lambda: FlowMatcher([wanted], [], NAMES), lambda: FlowPredicate([], [wanted])):
        with pytest.raises(CiliumpyError) as refusal:
            build()
        assert words in refusal.value.message
        assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("pattern", "namespace", "name", "answer"),
    [
        ("api", "default", "api-1", True),
        ("api", "shop", "api-1", False),
        ("shop/api", "shop", "api-1", True),
        ("shop/api/x", "shop", "api-1", True),
        ("shop/", "shop", "", True),
        ("/api", "any", "api-1", True),
        ("/", "", "", False),
    ],
)
def test_names(pattern, namespace, name, answer):
    assert patterns.name_pattern(pattern).matches(namespace, name) is answer


@pytest.mark.parametrize(
    ("selector", "labels", "answer"),
    [
        ("app=x", ["k8s:app=x"], True),
        ("k8s:app=x", ["container:app=x"], False),
        ("any:app==x", ["container:app=x"], True),
        ("app!=x", ["k8s:app=y"], True),
        ("app!=x", ["k8s:other=x"], True),
        ("app in (x, y)", ["k8s:app=y"], True),
        ("app notin (x,y)", ["k8s:app=y"], False),
        ("app,!gone", ["k8s:app=y"], True),
        ("reserved:world", ["reserved:world"], True),
        ("", ["k8s:app=y"], True),
        ("k8s:io.kubernetes.pod.namespace=shop,app", ["k8s:io.kubernetes.pod.namespace=shop", "k8s:app=1"], True),
    ],
)
def test_label_selectors(selector, labels, answer):
    assert patterns.label_selector(selector, "label").matches([parse(text) for text in labels]) is answer


@pytest.mark.parametrize(
    ("pattern", "node", "answer"),
    [
        ("n1", "default/n1", True),
        ("n1", "n1", True),
        ("c*/n*", "cluster/n1", True),
        ("n*", "default/n_1", False),
        ("/n1", "anything/n1", True),
        ("c/", "c/whatever_node", True),
        ("n1", "", False),
    ],
)
def test_node_patterns(pattern, node, answer):
    assert patterns.node_patterns([pattern])(node) is answer
