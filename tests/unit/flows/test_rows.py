# SPDX-License-Identifier: Apache-2.0
"""From event records to flows: which flows a record becomes, and the names they carry."""

from __future__ import annotations

import numpy as np
import pytest

from ciliumpy.flows import columns
from ciliumpy.flows.enrich import Enricher
from ciliumpy.flows.monitor import records
from ciliumpy.flows.monitor_text import lines
from ciliumpy.flows.names import Names, PolicyName
from ciliumpy.flows.to_flow import FlowMaker, parse_uuid
from ciliumpy.proto import flow_pb2
from ciliumpy.tables.endpoints import ENDPOINTS
from ciliumpy.tables.enforcement import POLICY_SETS
from ciliumpy.tables.ipcache import IPCACHE, IPCacheEntry
from tests.unit.flows import events
from tests.unit.flows.events import (
    ACK,
    AGGREGATE,
    ALLOWED,
    API,
    API_IP,
    API_IP6,
    CLOSE,
    DEFAULT_DENIED,
    DENIED,
    DROP,
    FRONTEND,
    FRONTEND_IP6,
    NO_POLICY,
    REDIRECTED,
    REPLY,
    REPLY_UNKNOWN,
    SYN,
    TO_HOST,
    TO_LOCAL,
    TO_NETWORK,
    TO_OVERLAY,
    TO_PROXY,
    VISITOR,
    VISITOR_IP,
    WORLD_IP,
    event,
)

WALL = 1_700_000_000_000_000_000


@pytest.fixture
def db():
    return events.cluster()


@pytest.fixture
def flows(db):
    names = Names()
    enricher = Enricher(db, names)
    maker = FlowMaker(names, "default/n1", ("zone=a",))

    def make(*records):
        return [maker.flow(row) for row in enricher.rows(events.block(*records), WALL)]

    return make


def test_a_new_flow_is_a_verdict_a_judged_leg_and_a_trace(flows):
    made = flows(event(egress=(7, 0, 0, ALLOWED), ingress=(7, 0, 0, REDIRECTED)))
    assert [(f.event_type.type, f.traffic_direction, f.verdict) for f in made] == [
        (5, flow_pb2.EGRESS, flow_pb2.FORWARDED),
        (5, flow_pb2.INGRESS, flow_pb2.REDIRECTED),
        (4, flow_pb2.INGRESS, flow_pb2.FORWARDED),
    ]
    assert all(f.HasField("is_reply") and not f.is_reply.value for f in made)
    assert len({f.uuid for f in made}) == 3
    trace = made[2]
    assert trace.time.ToNanoseconds() == WALL + 1000
    assert trace.trace_observation_point == flow_pb2.TO_ENDPOINT
    assert trace.trace_reason == flow_pb2.NEW
    assert trace.interface.index == 11
    assert trace.interface.name == "lxc000000000005"
    assert trace.Summary == "TCP Flags: SYN"
    assert trace.l4.TCP.destination_port == 8080
    assert (trace.emitter.name, trace.node_name, list(trace.node_labels)) == ("Hubble", "default/n1", ["zone=a"])


def test_an_unenforced_leg_has_no_verdict(flows):
    assert [f.event_type.type for f in flows(event(egress=(0, 0, 0, events.NOT_ENFORCED)))] == [4]


def test_a_missing_policy_denies_where_it_is_missing(flows):
    verdict, flow = flows(event(DROP, reason=133, ingress=(0, 0, 0, events.NO_POLICY)))
    assert verdict.traffic_direction == flow.traffic_direction == flow_pb2.INGRESS


@pytest.mark.parametrize(
    ("flags", "point", "direction"),
    [
        (TO_LOCAL, "TO_ENDPOINT", "INGRESS"),
        (TO_OVERLAY, "TO_OVERLAY", "EGRESS"),
        (TO_NETWORK, "TO_NETWORK", "EGRESS"),
        (TO_HOST, "TO_STACK", "EGRESS"),
        (TO_PROXY, "TO_PROXY", "EGRESS"),
        (TO_LOCAL | REPLY, "TO_ENDPOINT", "EGRESS"),
        (TO_OVERLAY | REPLY, "TO_OVERLAY", "INGRESS"),
        (TO_LOCAL | REPLY_UNKNOWN, "TO_ENDPOINT", "TRAFFIC_DIRECTION_UNKNOWN"),
    ],
)
def test_where_a_packet_goes(flows, flags, point, direction):
    (flow,) = flows(event(AGGREGATE, flags=flags))
    assert flow_pb2.TraceObservationPoint.Name(flow.trace_observation_point) == point
    assert flow_pb2.TrafficDirection.Name(flow.traffic_direction) == direction
    assert flow.HasField("is_reply") == (not flags & REPLY_UNKNOWN)
    assert flow.is_reply.value == flow.reply == bool(flags & REPLY)
    reason = "TRACE_REASON_UNKNOWN" if flags & REPLY_UNKNOWN else "REPLY" if flags & REPLY else "ESTABLISHED"
    assert flow_pb2.TraceReason.Name(flow.trace_reason) == reason


def test_a_denial_is_a_policy_verdict_and_a_drop_with_reason_and_place(flows):
    verdict, flow = flows(
        event(
            DROP,
            VISITOR_IP,
            API_IP,
            src_identity=VISITOR,
            src_endpoint=0,
            hook=2,
            reason=133,
            file=7,
            line=42,
            egress=(7, 0, 0, ALLOWED),
            ingress=(7, 0, 0, DEFAULT_DENIED),
        )
    )
    assert flow.verdict == flow_pb2.DROPPED
    assert flow.drop_reason == flow.drop_reason_desc == flow_pb2.POLICY_DENIED
    assert (flow.event_type.type, flow.event_type.sub_type) == (1, 133)
    assert flow.traffic_direction == flow_pb2.INGRESS
    assert not flow.HasField("is_reply")
    assert not flow.HasField("interface")
    assert (verdict.event_type.type, verdict.verdict, verdict.policy_match_type) == (5, flow_pb2.DROPPED, 0)
    assert verdict.drop_reason == verdict.drop_reason_desc == flow_pb2.POLICY_DENIED
    assert verdict.traffic_direction == flow_pb2.INGRESS
    assert not verdict.HasField("is_reply")
    assert not verdict.HasField("file")
    assert not verdict.ingress_denied_by
    assert verdict.uuid != flow.uuid
    assert (flow.file.name, flow.file.line) == ("policy.h", 42)
    assert not flow.ingress_denied_by, "no rule denied it"
    assert (flow.source.namespace, flow.source.pod_name, flow.source.ID) == ("guest", "visitor-1", 0)
    assert list(flow.source.labels) == list(events.VISITOR_LABELS)
    assert (flow.destination.pod_name, flow.destination.ID, flow.destination.identity) == ("api-1", 6, API)


def test_a_drop_by_a_rule_names_its_policy(flows):
    made = flows(event(DROP, reason=181, ingress=(7, 0, 0, DENIED)))
    assert [flow.event_type.type for flow in made] == [5, 1]
    for flow in made:
        assert [policy.name for policy in flow.ingress_denied_by] == ["api-from-frontend"]
        assert not flow.ingress_allowed_by
        assert flow.drop_reason_desc == flow_pb2.POLICY_DENY


def test_a_packet_without_a_policy_is_denied_by_none(flows):
    verdict, flow = flows(event(DROP, reason=133, egress=(7, 0, 0, NO_POLICY)))
    assert (verdict.traffic_direction, flow.traffic_direction) == (flow_pb2.EGRESS, flow_pb2.EGRESS)
    assert not verdict.egress_denied_by


def test_a_drop_at_the_sender_is_egress_and_of_nobody_unknown(flows):
    (first,) = flows(event(DROP, reason=132))
    (second,) = flows(event(DROP, WORLD_IP, "10.244.0.77", src_endpoint=0, dst_endpoint=0, hook=4, reason=170))
    assert first.traffic_direction == flow_pb2.EGRESS
    assert second.traffic_direction == flow_pb2.TRAFFIC_DIRECTION_UNKNOWN


def test_a_close_is_a_trace_event(flows):
    (flow,) = flows(event(CLOSE, tcp_flags=1 | ACK))
    assert (flow.event_type.type, flow.Summary) == (4, "TCP Flags: ACK, FIN")


def test_an_unknown_kind_of_record_makes_no_flow(flows):
    assert flows(event(99)) == []


def test_the_deciding_policy_is_named_with_what_it_matched(flows):
    verdict, _ = flows(event(ingress=(7, 0, 0, ALLOWED)))
    (policy,) = verdict.ingress_allowed_by
    assert (policy.kind, policy.namespace, policy.name, policy.revision) == (
        "CiliumNetworkPolicy",
        "shop",
        "api-from-frontend",
        4,
    )
    assert verdict.policy_match_type == 2  # L3-L4


def test_a_superseded_policy_is_still_named_for_late_records(db, flows):
    flows(event())
    with db.write() as txn:
        txn.delete(POLICY_SETS, 3)
    verdict, _ = flows(event(ingress=(7, 0, 0, ALLOWED)))
    assert [policy.name for policy in verdict.ingress_allowed_by] == ["api-from-frontend"]


def test_both_families_read_as_people_write_them(flows):
    (flow,) = flows(event(AGGREGATE, FRONTEND_IP6, API_IP6))
    assert (flow.IP.source, flow.IP.destination, flow.IP.ipVersion) == (FRONTEND_IP6, API_IP6, flow_pb2.IPv6)
    assert flow.source.pod_name == "frontend-1"
    (flow,) = flows(event(AGGREGATE, WORLD_IP, API_IP, src_identity=9, src_endpoint=0))
    assert (flow.IP.source, flow.IP.ipVersion) == (WORLD_IP, flow_pb2.IPv4)
    assert list(flow.source.labels) == ["reserved:world-ipv4"]
    assert flow.source.pod_name == ""


def test_names_are_those_of_the_time_of_arrival(db):
    names = Names()
    enricher = Enricher(db, names)
    visit = event(AGGREGATE, VISITOR_IP, API_IP, src_identity=VISITOR, src_endpoint=0)
    before = enricher.rows(visit, WALL)
    with db.write() as txn:
        txn.upsert(IPCACHE, IPCacheEntry(f"{VISITOR_IP}/32", FRONTEND, namespace="shop", pod="other"))
    after = enricher.rows(event(AGGREGATE, VISITOR_IP, API_IP, src_identity=FRONTEND, src_endpoint=0), WALL)
    maker = FlowMaker(names, "n")
    assert maker.flow(before[0]).source.pod_name == "visitor-1"
    assert maker.flow(after[0]).source.pod_name == "other"


def test_an_address_that_was_somebody_else_to_the_datapath_gets_no_name(flows):
    (flow,) = flows(event(AGGREGATE, VISITOR_IP, API_IP, src_identity=FRONTEND, src_endpoint=0))
    assert flow.source.pod_name == ""
    assert flow.source.identity == FRONTEND
    assert list(flow.source.labels) == list(events.FRONTEND_LABELS)


def test_a_forged_source_is_named_after_the_pod_that_sent_it(flows):
    (flow,) = flows(event(DROP, API_IP, VISITOR_IP, src_endpoint=5, reason=132, dst_endpoint=0))
    assert flow.source.pod_name == "frontend-1"
    assert flow.IP.source == API_IP


def test_what_the_datapath_left_open_comes_from_the_tables(flows):
    (flow,) = flows(event(DROP, VISITOR_IP, API_IP, src_identity=0, dst_identity=0, src_endpoint=0, dst_endpoint=0))
    assert (flow.source.identity, flow.source.pod_name) == (VISITOR, "visitor-1")
    assert (flow.destination.identity, flow.destination.ID, flow.destination.pod_name) == (API, 6, "api-1")


def test_a_local_pod_has_its_workload_and_a_removed_one_no_name(db, flows):
    (flow,) = flows(event(AGGREGATE))
    assert [(w.kind, w.name) for w in flow.source.workloads] == [("Deployment", "frontend")]
    with db.write() as txn:
        txn.delete(ENDPOINTS, 5)
    (flow,) = flows(event(AGGREGATE))
    assert flow.source.pod_name == ""
    assert (flow.source.ID, flow.source.identity) == (5, FRONTEND)


@pytest.mark.parametrize(
    ("fields", "layer", "summary"),
    [
        ({"tcp_flags": SYN | ACK}, "TCP", "TCP Flags: SYN, ACK"),
        ({"tcp_flags": 1 | 4 | 8 | ACK}, "TCP", "TCP Flags: ACK, RST, FIN, PSH"),
        ({"protocol": 17}, "UDP", "UDP"),
        ({"protocol": 132}, "SCTP", "SCTP"),
        ({"protocol": 1, "sport": 8, "dport": 0}, "ICMPv4", "ICMPv4 EchoRequest"),
        ({"protocol": 1, "sport": 3, "dport": 3}, "ICMPv4", "ICMPv4 DestinationUnreachable(Port)"),
        ({"protocol": 58, "sport": 129, "dport": 0}, "ICMPv6", "ICMPv6 EchoReply"),
        ({"protocol": 47}, None, "IPv4"),
    ],
)
def test_layer_four(flows, fields, layer, summary):
    (flow,) = flows(event(AGGREGATE, **fields))
    assert flow.l4.WhichOneof("protocol") == layer
    assert flow.Summary == summary


def test_a_uuid_says_where_a_record_came_from(flows):
    verdict, _ = flows(event(ktime=(3 << 48) + 5, cpu=3, seq=(1 << 32) - 1, ingress=(7, 0, 0, ALLOWED)))
    assert parse_uuid(verdict.uuid) == (5, 3, (1 << 32) - 1, columns.PART_INGRESS)
    assert parse_uuid("not a uuid") is None
    assert parse_uuid(verdict.uuid.replace("-4", "-5")) is None


def test_a_block_keeps_its_order_and_its_losses(db):
    names = Names()
    some = [event(AGGREGATE, ktime=n, seq=n) for n in range(50)]
    rows = Enricher(db, names).rows(events.block(*some), WALL)
    assert rows["seq"].tolist() == list(range(50))
    loss = columns.loss(5, 17, columns.LOST_IN_KERNEL, cpu=3)
    (response,) = FlowMaker(names, "n").responses(loss)
    assert (response.lost_events.num_events_lost, response.lost_events.cpu.value) == (17, 3)
    assert np.all(rows["event_type"] == columns.TRACE)


def test_sweeping_keeps_what_is_used():
    names = Names()
    used = names.rules.id((PolicyName("K", "n", "used"),))
    gone = names.rules.id((PolicyName("K", "n", "gone"),))
    names.sweep([], [used])
    assert names.rules[used][0].name == "used"
    assert names.rules[gone] == ()
    assert names.rules.id((PolicyName("K", "n", "gone"),)) not in (used, gone, 0)


@pytest.mark.parametrize("leg", ["egress", "ingress"])
def test_what_no_proxy_takes_is_a_denial_by_the_rule_that_wants_one(flows, leg):
    made = flows(event(DROP, reason=180, **{leg: (7, 0, 0, REDIRECTED)}))
    assert [flow.event_type.type for flow in made] == [5, 1]
    for flow in made:
        assert (flow.verdict, flow.drop_reason) == (flow_pb2.DROPPED, 180)
        assert flow.drop_reason_desc == flow_pb2.PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL
        assert flow_pb2.TrafficDirection.Name(flow.traffic_direction) == leg.upper()
        assert [policy.name for policy in getattr(flow, f"{leg}_denied_by")] == ["api-from-frontend"]


@pytest.mark.parametrize("said", [DENIED, DEFAULT_DENIED, REDIRECTED])
def test_what_audit_mode_lets_through_is_told_as_audited_and_by_whom(flows, said):
    verdict, trace = flows(event(ingress=(7, 0, 0, events.AUDITED | said)))
    assert (verdict.event_type.type, verdict.verdict) == (5, flow_pb2.AUDIT)
    assert verdict.HasField("is_reply")
    assert not verdict.drop_reason
    assert (verdict.policy_match_type == 0) == (said == DEFAULT_DENIED)
    named = [policy.name for policy in verdict.ingress_denied_by]
    assert named == ([] if said == DEFAULT_DENIED else ["api-from-frontend"])
    assert not verdict.ingress_allowed_by
    assert (trace.event_type.type, trace.verdict) == (4, flow_pb2.FORWARDED)


@pytest.mark.parametrize(("kind", "reason", "flag"), [(DROP, 180, 0), (events.FLOW, 0, events.AUDITED)])
def test_the_summary_says_what_the_rule_wants_a_proxy_to_look_at_and_the_log_its_value(flows, kind, reason, flag):
    verdict, last = flows(event(kind, dport=9090, reason=reason, ingress=(8, 0xFFFF, 0, REDIRECTED | flag)))
    text = "TCP Flags: SYN; shop/api-rules wants http GET /public (spec.ingress[1].toPorts[0])"
    told = [verdict, last] if reason else [verdict]
    for flow in told:
        assert flow.Summary == text
        assert list(flow.policy_log) == ["a log value"]
        assert [policy.name for policy in flow.ingress_denied_by] == ["api-from-frontend", "api-rules"]
    if not reason:
        assert (last.Summary, list(last.policy_log)) == ("TCP Flags: SYN", [])


def test_the_monitor_says_it_too():
    db = events.cluster()
    names = Names()
    rows = Enricher(db, names).rows(events.block(event(DROP, reason=180, ingress=(8, 0xFFFF, 0, REDIRECTED))), WALL)
    verdict, drop = records(rows, names)
    wants = "shop/api-rules wants http GET /public (spec.ingress[1].toPorts[0])"
    assert drop["reason"] == "Proxy redirection not supported for protocol"
    for record in (verdict, drop):
        assert (record["wanted"], record["policyLog"]) == ([wants], ["a log value"])
        assert lines(record).endswith(f"tcp SYN; {wants}")
        assert "Log {a log value}\n" in lines(record, verbose=2) + "\n"
