# SPDX-License-Identifier: Apache-2.0
"""What people read: hubble's lines, blocks, tables and JSON, and cilium's monitor lines, letter by letter."""

from __future__ import annotations

import io
import json
import re

import pytest
from google.protobuf import json_format

from ciliumpy.flows import columns, monitor, monitor_text
from ciliumpy.flows.enrich import Enricher
from ciliumpy.flows.fieldmask import FieldMask
from ciliumpy.flows.jsonpb import parse_response, to_json
from ciliumpy.flows.names import Names
from ciliumpy.flows.printers import POLICY_FIELDS, TEXT_FIELDS, Printer, Style, sanitize
from ciliumpy.flows.to_flow import FlowMaker
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.proto.flow_pb2 import Flow
from ciliumpy.proto.observer_pb2 import GetFlowsResponse
from tests.unit.flows import events
from tests.unit.flows.events import (
    AGGREGATE,
    ALLOWED,
    API_IP,
    DEFAULT_DENIED,
    DROP,
    FRONTEND_IP,
    VISITOR,
    VISITOR_IP,
    WORLD_IP,
    event,
)

# As hubble prints it.
LINE = (
    '{"flow":{"time":"1970-01-01T00:20:34.567800Z","verdict":"DROPPED","IP":{"source":"1.1.1.1","destination":"2.2.2.2"},'
    '"l4":{"TCP":{"source_port":31793,"destination_port":8080}},"source":{"identity":4},"destination":{"identity":12345},'
    '"Type":"L3_L4","node_name":"k8s1","event_type":{"type":1,"sub_type":133},"is_reply":false,'
    '"Summary":"TCP Flags: SYN"},"node_name":"k8s1","time":"1970-01-01T00:20:34.567800Z"}'
)


def show(*responses, form="compact", **style):
    out, err = io.StringIO(), io.StringIO()
    printer = Printer(form, Style(**style), out, err)
    for response in responses:
        printer.write(response)
    printer.close()
    return out.getvalue(), err.getvalue()


def changed(edit):
    response = parse_response(LINE)
    edit(response.flow)
    return response


def test_compact():
    line = "1.1.1.1:31793 (health) -> 2.2.2.2:8080 (ID:12345) Policy denied DROPPED (TCP Flags: SYN)\n"
    assert show(parse_response(LINE)) == (f"Jan  1 00:20:34.567: {line}", "")
    assert show(parse_response(LINE), node_name=True)[0] == f"Jan  1 00:20:34.567 [k8s1]: {line}"


def test_dict():
    block = (
        "  TIMESTAMP: Jan  1 00:20:34.567\n"
        "       NODE: k8s1\n"
        "     SOURCE: 1.1.1.1:31793\n"
        "DESTINATION: 2.2.2.2:8080\n"
        "       TYPE: Policy denied\n"
        "    VERDICT: DROPPED\n"
        "    SUMMARY: TCP Flags: SYN\n"
    )
    response = parse_response(LINE)
    assert show(response, form="dict", node_name=True)[0] == block
    assert show(response, response, form="dict", node_name=True)[0] == block + "------------\n" + block


def test_table():
    assert show(parse_response(LINE), form="table")[0] == (
        "TIMESTAMP             SOURCE          DESTINATION    TYPE            VERDICT   SUMMARY\n"
        "Jan  1 00:20:34.567   1.1.1.1:31793   2.2.2.2:8080   Policy denied   DROPPED   TCP Flags: SYN\n"
    )
    assert show(form="table") == ("", "")


@pytest.mark.parametrize("form", ["json", "jsonpb"])
def test_json_is_hubbles_letter_by_letter(form):
    assert show(parse_response(LINE), form=form)[0] == LINE + "\n"


def named(flow, source, destination):
    for end, name in ((flow.source, source), (flow.destination, destination)):
        end.namespace, end.pod_name = name.split("/")


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {
                "source": {"identity": 124484, "namespace": "default", "pod_name": "a"},
                "destination": {"identity": 107099, "namespace": "default", "pod_name": "b"},
                "l4": {"TCP": {"source_port": 43006, "destination_port": 8087}},
                "verdict": "FORWARDED",
                "event_type": {"type": 5},
                "policy_match_type": 1,
                "traffic_direction": "INGRESS",
                "ingress_allowed_by": [{"name": "my-policy", "kind": "CiliumNetworkPolicy"}],
            },
            (
                "default/a:43006 (ID:124484) -> default/b:8087 (ID:107099) policy-verdict:L3-Only INGRESS ALLOWED BY "
                "my-policy (CiliumNetworkPolicy) (TCP Flags: SYN)"
            ),
        ),
        (
            {
                "IP": {"source": "10.8.14.163"},
                "source": {"identity": 2},
                "destination": {"identity": 107099, "namespace": "default", "pod_name": "b"},
                "event_type": {"type": 5},
                "traffic_direction": "INGRESS",
                "is_reply": None,
            },
            (
                "10.8.14.163:31793 (world) <> default/b:8080 (ID:107099) policy-verdict:none INGRESS DENIED "
                "(TCP Flags: SYN)"
            ),
        ),
        (
            {"verdict": "AUDIT", "event_type": {"type": 5}, "policy_match_type": 2, "auth_type": "SPIRE"},
            (
                "1.1.1.1:31793 (health) -> 2.2.2.2:8080 (ID:12345) policy-verdict:L3-L4 TRAFFIC_DIRECTION_UNKNOWN "
                "AUDITED (TCP Flags: SYN; Auth: SPIRE)"
            ),
        ),
        (
            {"is_reply": True, "verdict": "FORWARDED", "event_type": {"type": 4, "sub_type": 4}},
            "2.2.2.2:8080 (ID:12345) <- 1.1.1.1:31793 (health) to-overlay FORWARDED (TCP Flags: SYN)",
        ),
        (
            {"event_type": {"type": 1, "sub_type": 210}, "ip_trace_id": {"trace_id": "1234"}},
            "1.1.1.1:31793 (health) -> 2.2.2.2:8080 (ID:12345) 210, 0 DROPPED (IP Trace ID: 1234; TCP Flags: SYN)",
        ),
        (
            {
                "IP": {"source": "fd00::1", "destination": "fd00::2"},
                "source_service": {"name": "shop", "namespace": "web"},
                "destination_names": ["a.example.org", "b.example.org"],
            },
            (
                "web/shop:31793 (health) -> a.example.org,b.example.org:8080 (ID:12345) Policy denied DROPPED "
                "(TCP Flags: SYN)"
            ),
        ),
        (
            {"IP": {"source": "fd00::1", "destination": "fd00::2"}},
            "[fd00::1]:31793 (health) -> [fd00::2]:8080 (ID:12345) Policy denied DROPPED (TCP Flags: SYN)",
        ),
        (
            {"IP": {"source": "fd00::1"}, "l4": {"ICMPv6": {"type": 128}}, "source": {"identity": 11}},
            "fd00::1 (ID:11) -> 2.2.2.2 (ID:12345) Policy denied DROPPED (TCP Flags: SYN)",
        ),
        (
            {"IP": None, "ethernet": {"source": "aa:bb:cc:dd:ee:ff"}, "l4": None},
            "aa:bb:cc:dd:ee:ff (health) ->  (ID:12345) Policy denied DROPPED (TCP Flags: SYN)",
        ),
        (
            {
                "Type": "L7",
                "event_type": {"type": 129},
                "verdict": "FORWARDED",
                "l7": {"type": "REQUEST", "dns": {"query": "cilium.io.", "observation_source": "proxy"}},
                "Summary": "DNS Query cilium.io. A",
            },
            "1.1.1.1:31793 (health) -> 2.2.2.2:8080 (ID:12345) dns-request proxy FORWARDED (DNS Query cilium.io. A)",
        ),
        (
            {"source": {"identity": 9, "pod_name": "evil\x1b[2J\n\u202e"}, "Summary": "a\rb"},
            "evil^[[2J^J\\u202e:31793 (world-ipv4) -> 2.2.2.2:8080 (ID:12345) Policy denied DROPPED (a^Mb)",
        ),
    ],
)
def test_lines(fields, line):
    value = json.loads(LINE)
    for name, new in fields.items():
        old = value["flow"].get(name)
        if new is None:
            value["flow"].pop(name, None)
        else:
            value["flow"][name] = {**old, **new} if isinstance(old, dict) and name == "IP" else new
    response = json_format.ParseDict(value, GetFlowsResponse())
    assert show(response, policy_names=True)[0] == f"Jan  1 00:20:34.567: {line}\n"
    assert show(json_format.ParseDict(value, GetFlowsResponse()), policy_names=False)[0].count("BY") == 0


def test_addresses_instead_of_names():
    response = changed(lambda flow: named(flow, "default/a", "default/b"))
    assert "default/a:31793 (health) -> default/b:8080" in show(response)[0]
    assert "1.1.1.1:31793 (health) -> 2.2.2.2:8080" in show(response, names=False)[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("StampMilli", "Jan  1 00:20:34.567"),
        ("RFC3339", "1970-01-01T00:20:34Z"),
        ("RFC3339Milli", "1970-01-01T00:20:34.567Z"),
        ("RFC3339Micro", "1970-01-01T00:20:34.567800Z"),
        ("RFC3339Nano", "1970-01-01T00:20:34.567800000Z"),
        ("RFC1123Z", "Thu, 01 Jan 1970 00:20:34 +0000"),
        ("YearMonthDayHourMinute", "1970-01-01T00:20Z"),
    ],
)
def test_time_formats(name, text):
    assert show(parse_response(LINE), time_format=name)[0].startswith(f"{text}: 1.1.1.1")


def test_a_masked_time_is_not_available():
    assert show(changed(lambda flow: flow.ClearField("time")))[0].startswith("N/A: ")


def test_colours_only_on_demand_and_never_in_a_table():
    assert (
        "\x1b[36m1.1.1.1\x1b[0m:\x1b[33m31793\x1b[0m \x1b[35m(health)\x1b[0m"
        in show(parse_response(LINE), color=True)[0]
    )
    assert "\x1b[31mDROPPED\x1b[0m" in show(parse_response(LINE), color=True)[0]
    assert "\x1b" not in show(parse_response(LINE))[0]
    assert "\x1b" not in show(parse_response(LINE), form="table", color=True)[0]


def test_losses_and_node_states():
    lost = json_format.ParseDict(
        {
            "lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "5", "cpu": 0},
            "node_name": "n1",
            "time": "1970-01-01T00:20:34.567Z",
        },
        GetFlowsResponse(),
    )
    assert show(lost)[0] == "Jan  1 00:20:34.567: EVENTS LOST: HUBBLE_RING_BUFFER CPU(0) 5\n"
    assert show(lost, form="json")[0] == (
        '{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"5","cpu":0},"node_name":"n1",'
        '"time":"1970-01-01T00:20:34.567Z"}\n'
    )
    assert "CPU(0) - 5" in show(lost, form="table")[0]
    assert "CPU(0) - 5" in show(lost, form="dict")[0]
    lost.lost_events.first.FromSeconds(1)
    lost.lost_events.last.FromSeconds(2)
    assert show(lost)[0].endswith(" 5 (first: Jan  1 00:00:01.000, last: Jan  1 00:00:02.000)\n")
    state = json_format.ParseDict(
        {"node_status": {"state_change": "NODE_UNAVAILABLE", "node_names": ["a", "b"]}, "node_name": "relay"},
        GetFlowsResponse(),
    )
    assert show(state) == ("", "N/A [relay]: 2 nodes are unavailable: a, b\n")
    assert show(state, form="json")[1].startswith('{"node_status":')
    assert show(GetFlowsResponse()) == ("", "")


def test_unknown_forms_are_refused():
    for form, style in (("yaml", Style()), ("compact", Style(time_format="Kitchen"))):
        with pytest.raises(CiliumpyError, match="invalid"):
            Printer(form, style, io.StringIO(), io.StringIO())


def test_sanitize_leaves_what_is_harmless():
    assert sanitize("shop/äpi-1") == "shop/äpi-1"
    assert sanitize("\x7f\x00") == "^?^@"


def test_numbers_that_nobody_knows_yet_survive():
    response = parse_response(LINE)
    response.flow.verdict = 77
    response.flow.drop_reason_desc = 207
    assert '"verdict":77' in to_json(response)
    assert " 77 (" in show(response)[0]


def test_json_in_the_order_of_declaration_with_gos_escapes():
    flow = Flow(uuid="<&>", socket_cookie=1 << 63, Summary="x")
    flow.IP.source_xlated = "1.1.1.1"
    flow.IP.destination = "2.2.2.2"
    flow.is_reply.value = False
    flow.time.FromNanoseconds(1_500_000_000)
    assert to_json(flow) == (
        '{"time":"1970-01-01T00:00:01.500Z","uuid":"\\u003c\\u0026\\u003e",'
        '"IP":{"source_xlated":"1.1.1.1","destination":"2.2.2.2"},"is_reply":false,'
        '"socket_cookie":"9223372036854775808","Summary":"x"}'
    )


def test_reading_old_new_and_foreign_lines():
    assert to_json(parse_response(LINE)) == LINE
    only_flow = json.dumps(json.loads(LINE)["flow"])
    assert to_json(parse_response(only_flow)) == LINE
    extended = json.loads(LINE) | {"new_field": 1}
    assert to_json(parse_response(json.dumps(extended))) == LINE
    assert parse_response('{"agent_event":{}}').WhichOneof("response_types") is None
    for bad in ("", "[]", "{", '{"a":1}', '{"flow":7}'):
        with pytest.raises(ValueError):
            parse_response(bad)


def test_the_mask_of_the_text_formats_holds_what_they_print():
    names = Names()
    rows = Enricher(events.cluster(), names).rows(event(ingress=(7, 0, 0, ALLOWED)), 0)
    mask = FieldMask(TEXT_FIELDS + POLICY_FIELDS)
    for response in FlowMaker(names, "default/n1").responses(rows):
        masked = GetFlowsResponse(flow=mask.apply(response.flow))
        for form in ("compact", "dict", "table"):
            assert show(masked, form=form, node_name=True, policy_names=True) == show(
                response, form=form, node_name=True, policy_names=True
            )


def test_field_masks():
    flow = parse_response(LINE).flow
    masked = FieldMask(["source", "source.identity", "destination.pod_name", "time", "is_reply"]).apply(flow)
    assert to_json(masked) == (
        '{"time":"1970-01-01T00:20:34.567800Z","source":{"identity":4},"destination":{},"is_reply":false}'
    )
    for bad in ("nothing", "source.nothing", "verdict.x", "source.labels.x", ""):
        with pytest.raises(CiliumpyError, match="invalid field mask"):
            FieldMask([bad])


def recorded(*records, types=()):
    names = Names()
    rows = Enricher(events.cluster(), names).rows(events.block(*records), 0)
    return [json.loads(json.dumps(r)) for r in monitor.records(rows, names, types)]


def monitored(*records, types=()):
    return [monitor_text.line(record) for record in recorded(*records, types=types)]


def test_monitor_lines():
    new = event(ingress=(7, 0, 0, ALLOWED))
    drop = event(
        DROP, VISITOR_IP, API_IP, src_identity=VISITOR, src_endpoint=0, reason=133, file=7, line=9,
        ingress=(0, 0, 0, DEFAULT_DENIED),
    )  # fmt: skip
    six = event(
        events.AGGREGATE, "fd00:10:244::5", "fd00:10:244::6", flags=events.TO_OVERLAY | events.REPLY, tcp_flags=18
    )
    ping = event(events.AGGREGATE, protocol=1, sport=8, dport=0, flags=events.TO_HOST, dst_identity=1, dst_endpoint=0)
    shown = monitored(new, drop, six, ping)
    assert [re.sub("flow 0x[0-9a-f]{5,8} ", "flow # ", text) for text in shown] == [
        (
            "Policy verdict log: flow # local EP ID 6, remote ID 1001, proto 6, ingress, action allow, "
            "auth: disabled, match L3-L4, 10.244.0.5:40000 -> 10.244.0.6:8080 tcp SYN"
        ),
        (
            "-> endpoint 6 flow # , identity 1001->1002 state new ifindex lxc000000000005 orig-ip 0.0.0.0: "
            "10.244.0.5:40000 -> 10.244.0.6:8080 tcp SYN"
        ),
        (
            "Policy verdict log: flow # local EP ID 6, remote ID 1003, proto 6, ingress, action deny, auth: disabled, "
            "match none, 10.244.1.9:40000 -> 10.244.0.6:8080 tcp SYN"
        ),
        (
            "xx drop (Policy denied) flow # to endpoint 6, ifindex lxc000000000005, file policy.h:9, , "
            "identity 1003->1002: 10.244.1.9:40000 -> 10.244.0.6:8080 tcp SYN"
        ),
        (
            "-> overlay flow # , identity 1001->1002 state reply ifindex lxc000000000005 orig-ip ::: "
            "[fd00:10:244::5]:40000 -> [fd00:10:244::6]:8080 tcp SYN, ACK"
        ),
        (
            "-> stack flow # , identity 1001->host state established ifindex lxc000000000005 orig-ip 0.0.0.0: "
            "10.244.0.5 -> 10.244.0.6 EchoRequest"
        ),
    ]
    assert [text[:7] for text in monitored(new, drop, types={"drop"})] == ["xx drop"]
    assert len(monitored(new, drop, types={"trace", "policy-verdict"})) == 3
    (loss,) = monitor.records(columns.loss(0, 15, columns.LOST_IN_KERNEL, 3), Names(), {"drop"})
    assert monitor_text.line(loss) == "CPU 03: Lost 15 events"
    with pytest.raises(CiliumpyError, match="no event type 'drops'"):
        monitor_text.check_types(["drop", "drops"])


def test_both_directions_of_a_flow_have_one_number():
    there = event(ingress=(7, 0, 0, ALLOWED))
    back = event(AGGREGATE, API_IP, FRONTEND_IP, sport=8080, dport=40000, src_endpoint=6, dst_endpoint=5)
    other = event(AGGREGATE, sport=40001)
    ping = event(AGGREGATE, protocol=1, sport=8, dport=0)
    pong = event(AGGREGATE, API_IP, FRONTEND_IP, protocol=1, sport=0, dport=0)
    marks = [re.search("flow (0x[0-9a-f]+) ", text)[1] for text in monitored(there, back, other, ping, pong)]
    assert marks[0] == marks[1] == marks[2] != marks[3]
    assert marks[4] == marks[5] not in marks[:4]


def test_verbose_monitor_records():
    (verdict, trace) = (record for record in recorded(event(ingress=(7, 0, 0, ALLOWED))))
    assert list(trace) == [
        *("type", "cpu", "timeNs", "mark", "source", "dstID", "srcLabel", "dstLabel", "srcPod", "dstPod", "bytes"),
        *("ifindex", "summary", "observationPoint", "state"),
    ]
    mark = trace["mark"]
    assert monitor_text.lines(trace, verbose=1).splitlines() == [
        "-" * 78,
        (
            f"CPU 00: MARK {mark} FROM 5 to-endpoint: 60 bytes, state new, interface lxc000000000005, "
            "identity 1001->1002, to endpoint 6"
        ),
        "IPv4 {SrcIP=10.244.0.5 DstIP=10.244.0.6 Protocol=6}",
        "TCP {SrcPort=40000 DstPort=8080 SYN}",
    ]
    assert monitor_text.lines(verdict, verbose=2).splitlines()[-2:] == [
        "Names {shop/frontend-1 -> shop/api-1}",
        "Policies {CiliumNetworkPolicy/shop/api-from-frontend}",
    ]
    (drop,) = recorded(event(DROP, WORLD_IP, src_identity=2, src_endpoint=0, reason=132, file=1, line=3))
    text = monitor_text.lines(drop, verbose=2).splitlines()
    assert "Invalid source ip: 60 bytes, interface lxc000000000005, file pod.h:3, identity 2->1002" in text[1]
    assert text[-1] == "Names {world -> shop/api-1}"
