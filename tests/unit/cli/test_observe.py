# SPDX-License-Identifier: Apache-2.0
"""Observe's flags: what they ask a server for, which go together, and recorded flows without any agent."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
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
    ],
)
def test_flags_that_mean_nothing(flags, words):
    with pytest.raises(CiliumpyError) as refusal:
        filters.build(flags)
    assert refusal.value.message == words
    assert refusal.value.exit_code == 2


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
        ({"follow": True, "until": "1m"}, {"follow": True}),
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
    ):
        found = run(capsys, "--input-file", str(SAMPLE), "-o", "jsonpb", *flags)[1]
        assert [json.loads(line)["flow"]["uuid"] for line in found] == [flow["uuid"] for flow in kept]


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
