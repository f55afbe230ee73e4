# SPDX-License-Identifier: Apache-2.0
"""Observe's flags: what they ask a server for, which go together, and recorded flows without any agent."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml
from google.protobuf.json_format import MessageToDict

from ciliumpy.cli.__main__ import main
from ciliumpy.cli.observe import filters, request
from ciliumpy.kit.errors import CiliumpyError

SAMPLE = Path(__file__).parents[2] / "data/flows.jsonl"
NOW = 1_800_000_000_000_000_000


def whitelist(**flags):
    return [MessageToDict(each, preserving_proto_field_name=True) for each in filters.build(flags)]


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({}, []),
        ({"verdict": ["DROPPED", "error"]}, [{"verdict": ["DROPPED", "ERROR"]}]),
        ({"pod": ["shop/api"]}, [{"source_pod": ["shop/api"]}, {"destination_pod": ["shop/api"]}]),
        (
            {"from_pod": ["guest/visitor"], "to_pod": ["shop/api"]},
            [{"source_pod": ["guest/visitor"], "destination_pod": ["shop/api"]}],
        ),
        (
            {"pod": ["a"], "port": ["80"]},
            [{"source_pod": ["a"], "source_port": ["80"]}, {"destination_pod": ["a"], "destination_port": ["80"]}],
        ),
        ({"namespace": ["shop"]}, [{"source_pod": ["shop/"]}, {"destination_pod": ["shop/"]}]),
        ({"from_namespace": ["shop"]}, [{"source_pod": ["shop/"]}]),
        (
            {"namespace": ["shop", "guest"], "pod": ["api", "shop/db"]},
            [
                {"source_pod": ["shop/api", "guest/api", "shop/db"]},
                {"destination_pod": ["shop/api", "guest/api", "shop/db"]},
            ],
        ),
        ({"all_namespaces": ["yes"], "pod": ["api"]}, [{"source_pod": ["/api"]}, {"destination_pod": ["/api"]}]),
        ({"all_namespaces": ["yes"]}, []),
        (
            {"type": ["trace:to-endpoint", "drop:133", "l7", "130"]},
            [
                {
                    "event_type": [
                        {"type": 4, "match_sub_type": True},
                        {"type": 1, "match_sub_type": True, "sub_type": 133},
                        {"type": 129},
                        {"type": 130},
                    ]
                }
            ],
        ),
        (
            {"from_identity": ["world"], "to_identity": ["4711"]},
            [{"source_identity": [2], "destination_identity": [4711]}],
        ),
        ({"ip": ["FD00::0:1"]}, [{"source_ip": ["fd00::1"]}, {"destination_ip": ["fd00::1"]}]),
        ({"tcp_flags": ["syn,ack", "rst"]}, [{"tcp_flags": [{"SYN": True, "ACK": True}, {"RST": True}]}]),
        (
            {"workload": ["Deployment/"]},
            [{"source_workload": [{"kind": "Deployment"}]}, {"destination_workload": [{"kind": "Deployment"}]}],
        ),
        ({"drop_reason_desc": ["policy_denied"]}, [{"drop_reason_desc": ["POLICY_DENIED"]}]),
        ({"traffic_direction": ["ingress"]}, [{"traffic_direction": ["INGRESS"]}]),
        ({"from_label": ["tier=api"]}, [{"source_label": ["tier=api"]}]),
        ({"node_name": ["n*"], "ip_version": [2]}, [{"node_name": ["n*"], "ip_version": ["IPv6"]}]),
        ({"ip_version": ["none", "v4"]}, [{"ip_version": ["IP_NOT_USED", "IPv4"]}]),
        ({"label": ["a=b", "c"]}, [{"source_label": ["a=b", "c"]}, {"destination_label": ["a=b", "c"]}]),
        ({"ip": ["10.0.0.0/8"]}, [{"source_ip": ["10.0.0.0/8"]}, {"destination_ip": ["10.0.0.0/8"]}]),
        (
            {"from_port": ["1024"], "to_port": ["80", "443"]},
            [{"source_port": ["1024"], "destination_port": ["80", "443"]}],
        ),
        ({"protocol": ["tcp", "udp"]}, [{"protocol": ["tcp", "udp"]}]),
        ({"reply": ["yes"]}, [{"reply": [True]}]),
        ({"encrypted": ["yes"]}, [{"encrypted": [True]}]),
        ({"unencrypted": ["yes"]}, [{"encrypted": [False]}]),
        ({"interface": ["7", "eth0"]}, [{"interface": [{"index": 7}, {"name": "eth0"}]}]),
        ({"node_label": ["zone=a"]}, [{"node_labels": ["zone=a"]}]),
        ({"cluster": ["east"]}, [{"source_cluster_name": ["east"]}, {"destination_cluster_name": ["east"]}]),
        (
            {"from_workload": ["web"], "to_workload": ["StatefulSet/db"]},
            [{"source_workload": [{"name": "web"}], "destination_workload": [{"kind": "StatefulSet", "name": "db"}]}],
        ),
        ({"from_all_namespaces": ["yes"], "from_pod": ["api"]}, [{"source_pod": ["/api"]}]),
        (
            {"namespace": ["shop"], "service": ["api"]},
            [{"source_service": ["shop/api"]}, {"destination_service": ["shop/api"]}],
        ),
        ({"fqdn": ["*.io"]}, [{"source_fqdn": ["*.io"]}, {"destination_fqdn": ["*.io"]}]),
        ({"http_header": ["X-A: b:c"]}, [{"http_header": [{"key": "X-A", "value": "b:c"}]}]),
    ],
)
def test_flags_become_a_left_and_a_right_filter(flags, wanted):
    assert whitelist(**flags) == wanted


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"pod": ["a"], "from_pod": ["b"]}, "filters --from-pod and --pod cannot be combined"),
        ({"pod": ["a"], "to_ip": ["10.0.0.1"]}, "filters --to-ip and --pod cannot be combined"),
        ({"from_pod": ["a"], "namespace": ["b"]}, "filters --from-pod and --namespace cannot be combined"),
        ({"label": ["a"], "to_label": ["b"]}, "filters --label and --to-label cannot be combined"),
        ({"namespace": ["a"], "pod": ["b/x"]}, 'namespace conflict: "a" does not contain "b/x"'),
        ({"verdict": ["DENIED"]}, 'unknown verdict "DENIED"'),
        ({"type": ["drops"]}, 'unknown event type "drops"'),
        ({"type": ["trace:nowhere"]}, 'unknown event sub-type "nowhere" of trace'),
        ({"identity": ["me"]}, 'invalid identity "me"'),
        ({"ip": ["10.0.0"]}, 'invalid IP address "10.0.0"'),
        ({"tcp_flags": ["syn,xyz"]}, 'invalid TCP flag "xyz"'),
        ({"drop_reason_desc": ["X"]}, 'unknown drop reason "X"'),
        ({"ip_version": ["v5"]}, 'unknown IP version "v5"'),
        ({"http_header": ["X"]}, 'invalid HTTP header "X"'),
        ({"ip_trace_id": ["0"]}, 'invalid IP trace id "0"'),
        ({"encrypted": ["yes"], "unencrypted": ["yes"]}, "filters --encrypted and --unencrypted cannot be combined"),
        ({"to_workload": ["a"], "workload": ["b"]}, "filters --workload and --to-workload cannot be combined"),
        ({"fqdn": ["a.io"], "to_namespace": ["b"]}, "filters --fqdn and --to-namespace cannot be combined"),
    ],
)
def test_flags_that_mean_nothing(flags, words):
    with pytest.raises(CiliumpyError) as refusal:
        filters.build(flags)
    assert refusal.value.message == words
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("flag", "said", "hint"),
    [
        ("drop_reason_desc", "Policy denied", "did you mean POLICY_DENIED or POLICY_DENY?"),
        ("drop_reason_desc", "X", "docs/reference/drop-reasons.md lists them"),
        ("traffic_direction", "out", "one of INGRESS, EGRESS"),
    ],
)
def test_an_unknown_name_brings_those_that_are_near_or_few(flag, said, hint):
    with pytest.raises(CiliumpyError) as refusal:
        filters.build({flag: [said]})
    assert refusal.value.hint == hint


def asked(whole=False, **flags):
    defaults = {
        **dict.fromkeys(("last", "first")),
        **dict.fromkeys(("all_flows", "follow"), False),
        **dict.fromkeys(("since", "until"), ""),
        **dict.fromkeys(("allowlist", "denylist"), ()),
        "output": "compact",
    }
    built = request.build({**defaults, **flags}, NOW, whole=whole)
    return MessageToDict(built, preserving_proto_field_name=True)


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({}, {"number": "20"}),
        ({"whole": True}, {}),
        ({"last": 5}, {"number": "5"}),
        ({"first": 5}, {"number": "5", "first": True}),
        ({"all_flows": True}, {"number": str((1 << 64) - 1)}),
        ({"follow": True}, {"follow": True}),
        ({"follow": True, "last": 3}, {"follow": True, "number": "3"}),
        ({"follow": True, "until": "1m"}, {"follow": True, "until": "2027-01-15T07:59:00Z"}),
        ({"since": "1h", "until": "1m"}, {"since": "2027-01-15T07:00:00Z", "until": "2027-01-15T07:59:00Z"}),
        ({"since": "2026-01-31"}, {"since": "2026-01-31T00:00:00Z"}),
        ({"since": "2026-01-31T15Z"}, {"since": "2026-01-31T15:00:00Z"}),
        ({"since": "2026-01-31T15:04+01:00"}, {"since": "2026-01-31T14:04:00Z"}),
        ({"since": "2026-01-31T15:04:05.123456Z"}, {"since": "2026-01-31T15:04:05.123456Z"}),
        ({"since": "Sat, 31 Jan 2026 15:04:05 +0000"}, {"since": "2026-01-31T15:04:05Z"}),
        (
            {"denylist": ['{"verdict":["DROPPED"]} {"source_pod":["a/"]}']},
            {"number": "20", "blacklist": [{"verdict": ["DROPPED"]}, {"source_pod": ["a/"]}]},
        ),
        (
            {"ipv6": True, "verdict": ["DROPPED,ERROR"]},
            {"number": "20", "whitelist": [{"verdict": ["DROPPED", "ERROR"], "ip_version": ["IPv6"]}]},
        ),
    ],
)
def test_how_many_and_from_when(flags, wanted):
    assert asked(**flags) == wanted


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"first": 1, "last": 1}, "cannot set both --first and --last"),
        ({"first": 1, "all_flows": True}, "cannot set both --first and --all"),
        ({"first": 1, "follow": True}, "cannot set both --first and --follow"),
        ({"last": 1, "all_flows": True}, "cannot set both --last and --all"),
        ({"output": "table", "follow": True}, "cannot set both --output table and --follow"),
        ({"since": "yesterday"}, '--since: "yesterday" is no time'),
        ({"since": "2m", "until": "10m"}, "--since is later than --until"),
        ({"allowlist": ['{"verdict":["NO"]}']}, "--allowlist: not a flow filter"),
        ({"denylist": ["{"]}, "--denylist: not a flow filter"),
        ({"last": -5}, "--last: -5 is no number of flows"),
        ({"last": 0}, "--last: 0 is no number of flows"),
        ({"first": -1}, "--first: -1 is no number of flows"),
        ({"last": 10**22}, f"--last: {10**22} is no number of flows"),
        ({"to_port": ["http"]}, 'invalid destination port filter: invalid port "http"'),
        ({"label": ["app in (api"]}, "invalid source label filter"),
        ({"denylist": ['{"source_port":["http"]}']}, "invalid source port filter"),
    ],
)
def test_requests_that_contradict_themselves(flags, words):
    with pytest.raises(CiliumpyError) as refusal:
        asked(**flags)
    assert words in refusal.value.message
    assert refusal.value.exit_code == 2


# --not, by the whole command line: what it negates depends on the order of the arguments.


@pytest.mark.parametrize(
    ("arguments", "allowed", "denied"),
    [
        ([], [], []),
        (["--not", "--verdict", "DROPPED"], [], [{"verdict": ["DROPPED"]}]),
        (["--verdict", "DROPPED", "--not", "--port", "53"], [{"verdict": ["DROPPED"]}], ["port 53"]),
        (["--not", "--port", "53", "--port", "80"], ["port 80"], ["port 53"]),
        (["--port", "80", "--not", "--port", "53"], ["port 80"], ["port 53"]),
        (["--port", "80", "--port", "81", "--not", "--port=53"], ["port 80,81"], ["port 53"]),
        (["--not", "-n", "kube-system"], [], [{"source_pod": ["kube-system/"]}, {"destination_pod": ["kube-system/"]}]),
        (["--not", "--reply", "--not", "-4"], [], [{"reply": [True], "ip_version": ["IPv4"]}]),
        (["--not", "-t", "drop,trace"], [], [{"event_type": [{"type": 1}, {"type": 4}]}]),
        (["--not", "-A"], [], []),  # an empty filter would hide everything
        (["--pod", "a", "--not", "--from-pod", "b"], ["pod a"], [{"source_pod": ["b"]}]),
        (["--denylist", '{"uuid":["it\'s"]}', "--not", "--uuid", "<x>"], [], [{"uuid": ["<x>"]}, {"uuid": ["it's"]}]),
    ],
)
def test_not_hides_what_the_next_filter_matches(capsys, arguments, allowed, denied):
    def both(short):
        if isinstance(short, dict):
            return [short]
        field, values = short.split()
        return [{f"{side}_{field}": values.split(",")} for side in ("source", "destination")]

    code, lines, err = run(capsys, "--print-raw-filters", *arguments)
    assert (code, err) == (0, "")
    printed = yaml.safe_load("\n".join(lines)) or {}
    assert list(printed) == [name for name, made in (("allowlist", allowed), ("denylist", denied)) if made]
    for name, wanted in (("allowlist", allowed), ("denylist", denied)):
        assert [json.loads(text) for text in printed.get(name, [])] == [each for w in wanted for each in both(w)]


def test_raw_filters_are_what_allowlist_and_denylist_take(capsys):
    first = run(capsys, "--print-raw-filters", "--from-pod", "a", "--not", "--label", "k8s:app=x")[1]
    assert first == [
        "allowlist:",
        """- '{"source_pod":["a"]}'""",
        "denylist:",
        """- '{"source_label":["k8s:app=x"]}'""",
        """- '{"destination_label":["k8s:app=x"]}'""",
    ]
    lists = yaml.safe_load("\n".join(first))
    again = [a for name in ("allowlist", "denylist") for text in lists[name] for a in (f"--{name}", text)]
    assert run(capsys, "--print-raw-filters", *again)[1] == first


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--not", "--not", "--pod", "a"], "consecutive --not statements"),
        (["--pod", "a", "--not"], "trailing --not found in the arguments"),
        (["--not", "--last", "5"], "--not before --last, which is no filter"),
        (["--http-status", "5+"], "--http-status: the flows of these agents carry no requests of HTTP"),
        (["--to-fqdn", "a.io"], "--to-fqdn: the flows of these agents carry no DNS names"),
        (["--not", "--service", "a"], "--service: the flows of these agents carry no services"),
        (["--cel-expression", "true"], "--cel-expression is not supported"),
        (["--field-mask", "time"], "--field-mask is for JSON"),
        (["--field-mask", "time,nose", "-o", "json"], 'flows have no field "nose"'),
    ],
)
def test_what_is_refused_before_anybody_is_asked(capsys, arguments, words):
    code, lines, err = run(capsys, *arguments)
    assert (code, lines) == (2, [])
    assert words in err
    assert "Traceback" not in err


# Recorded flows, through the whole command.


def run(capsys, *arguments):
    code = main(["observe", *arguments])
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err


def test_a_recorded_file_needs_no_agent(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CILIUMPY_RUN_DIR", str(tmp_path))
    code, lines, err = run(capsys, "--input-file", str(SAMPLE), "-o", "json")
    assert (code, err) == (0, "")
    assert lines == SAMPLE.read_text().splitlines()
    code, lines, err = run(capsys, "--input-file", str(SAMPLE), "--verdict", "DROPPED", "--from-pod", "guest/visitor")
    assert (code, err) == (0, "")
    assert lines
    assert all("guest/visitor" in line and " DROPPED " in line for line in lines)
    flows = [json.loads(line)["flow"] for line in SAMPLE.read_text().splitlines()]
    for flags, kept in (
        (["--last", "3"], flows[-3:]),
        (["--first", "3"], flows[:3]),
        (["--since", flows[4]["time"]], flows[4:]),
        (["--until", flows[4]["time"]], flows[:5]),
        (["-t", "drop"], [flow for flow in flows if flow["event_type"]["type"] == 1]),
        (["--denylist", "{}"], []),
        (["--not", "-t", "drop"], [flow for flow in flows if flow["event_type"]["type"] != 1]),
        (["--reply"], [flow for flow in flows if flow.get("is_reply") is True]),
        (["--not", "--protocol", "tcp"], [flow for flow in flows if "TCP" not in flow["l4"]]),
        (["--http-status", "200"], [f for f in flows if f.get("l7", {}).get("http", {}).get("code") == 200]),
    ):
        found = run(capsys, "--input-file", str(SAMPLE), "-o", "jsonpb", *flags)[1]
        assert [json.loads(line)["flow"]["uuid"] for line in found] == [flow["uuid"] for flow in kept]


def test_a_field_mask_leaves_nothing_else(capsys):
    lines = run(capsys, "--input-file", str(SAMPLE), "-o", "json", "--field-mask", "IP.source,verdict")[1]
    flows = [json.loads(line)["flow"] for line in SAMPLE.read_text().splitlines()]
    wanted = [{"verdict": flow["verdict"], "IP": {"source": flow["IP"]["source"]}} for flow in flows]
    assert [json.loads(line) for line in lines] == [{"flow": flow} for flow in wanted]


def test_standard_input(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(SAMPLE.read_text()))
    assert run(capsys, "--input-file", "-", "-o", "json")[1] == SAMPLE.read_text().splitlines()


def test_bad_lines_are_named_and_the_good_ones_shown(capsys, tmp_path):
    good = SAMPLE.read_text().splitlines()[0]
    file = tmp_path / "flows"
    file.write_bytes(b'{"a":1}\n\n' + good.encode() + b'\n{"flow":\n\xff\xfe\n')
    code, lines, err = run(capsys, "--input-file", str(file), "-o", "json")
    assert (code, lines) == (1, [good])
    told = [line.removeprefix(str(file)).partition(": not a flow: ")[0] for line in err.splitlines()]
    assert told == [":1", ":4", ":5"]
    assert "Traceback" not in err


def test_mistakes_are_told_once(capsys, tmp_path):
    for arguments, words in (
        (["--input-file", str(tmp_path / "none")], "none cannot be read: No such file or directory"),
        (["--input-file", str(SAMPLE), "-o", "yaml"], 'invalid output format "yaml"'),
        (["--input-file", str(SAMPLE), "--color", "pink"], 'invalid color mode "pink"'),
        (["--input-file", str(SAMPLE), "--port", "http"], 'invalid source port filter: invalid port "http"'),
        (["--input-file", str(SAMPLE), "--label", "a in"], "invalid source label filter"),
    ):
        code, lines, err = run(capsys, *arguments)
        assert code in (1, 2)
        assert lines == []
        assert words in err
        assert "Traceback" not in err
