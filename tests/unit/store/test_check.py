# SPDX-License-Identifier: Apache-2.0
"""Manifests judged without an agent: every fault at once, each in its place, none that only follows from another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.errors import FieldError
from ciliumpy.model.option_names import from_document, with_named
from ciliumpy.model.options import PolicyOptions
from ciliumpy.store.check import Finding, Report, Text, check
from ciliumpy.store.faults import MOST, faults
from ciliumpy.store.texts import texts

HEAD = b"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: shop}\n"


def judged(*data: bytes) -> Report:
    return check((Text(f"f{n}.yaml", each) for n, each in enumerate(data)), PolicyOptions())


def told(*data: bytes) -> list[tuple[int, int, str]]:
    """Line, column and field of each finding."""
    return [(finding.line, finding.column, finding.field) for finding in judged(*data).findings]


MANY = (
    HEAD
    + b"""\
spec:
  endpointSelectr: {}
  endpointSelector: {matchLabels: {a: b}, foo: 1}
  ingress:
    - fromEndpoint: [{}]
      fromEndpoints: [{matchLabels: {a: "b c"}}, {matchExpressions: [{key: a, operator: Is}]}]
      toPorts:
        - ports: [{port: "99999"}, {port: "80", protocol: TCQ}, {port: "80"}]
          prots: x
    - fromEntities: [wrld]
  egress:
    - toCIDR: [10.0.0.0/33]
  egressDeny: 3
"""
)


def test_every_fault_of_an_object_is_told_in_its_place() -> None:
    assert told(MANY) == [
        (5, 3, "spec.endpointSelectr"),
        (6, 43, "spec.endpointSelector.foo"),
        (8, 7, "spec.ingress[0].fromEndpoint"),
        (9, 38, "spec.ingress[0].fromEndpoints[0].matchLabels.a"),
        (9, 79, "spec.ingress[0].fromEndpoints[1].matchExpressions[0].operator"),
        (11, 20, "spec.ingress[0].toPorts[0].ports[0].port"),
        (11, 49, "spec.ingress[0].toPorts[0].ports[1].protocol"),
        (12, 11, "spec.ingress[0].toPorts[0].prots"),
        (13, 22, "spec.ingress[1].fromEntities[0]"),
        (15, 16, "spec.egress[0].toCIDR[0]"),
        (16, 3, "spec.egressDeny"),
    ]


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        (b"spec: {ingress: [{fromEntities: [x]}], endpointSelector: {}}", ["spec.ingress[0].fromEntities[0]"]),
        (b"spec: {endpointSelector: 3, ingress: [{}]}", ["spec.endpointSelector"]),
        (b"spec: {ingress: [{}]}", ["spec.endpointSelector"]),
        (b"spec: 3", ["spec"]),
        (b"", ["spec"]),
        (b"spec: {endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: x y}]}]}]}", None),
    ],
)
def test_what_only_follows_from_a_fault_is_not_told(spec: bytes, fields: list[str] | None) -> None:
    """A field that was taken out with its fault is missed by nobody."""
    found = [field for _, _, field in told(HEAD + spec)]
    assert len(found) == 1
    assert fields is None or found == fields


def test_faults_come_to_an_end() -> None:
    unknown = {f"x{n}": 1 for n in range(MOST + 20)}

    def decode(value: dict[str, object]) -> None:
        for name in value:
            raise FieldError((name,), "unknown field")

    assert len(faults(decode, unknown)) == MOST

    def stubborn(_: dict[str, object]) -> None:
        raise FieldError(("nowhere", 3, "x"), "is missing")

    assert len(faults(stubborn, {"a": 1})) == 1


def test_files_are_judged_as_one_set() -> None:
    good = HEAD + b"spec: {endpointSelector: {}, ingress: [{}]}\n"
    report = judged(good, b"# nothing\n", b"a: [\n", b"kind: Secret\napiVersion: v1\nmetadata: {name: x}\n", good)
    assert [(f.file, f.line, f.level, f.rule) for f in report.findings] == [
        ("f1.yaml", 0, "warning", "no-objects"),
        ("f2.yaml", 2, "error", "syntax"),
        ("f3.yaml", 1, "note", "unchecked"),
        ("f4.yaml", 1, "error", "duplicate"),
    ]
    assert (report.files, [str(each.key) for each in report.objects]) == (5, ["CiliumNetworkPolicy/shop/p"])
    assert report.findings[3].message == "is in f0.yaml:1 already"


def test_a_kind_that_is_misspelt_is_no_kind_to_pass_over() -> None:
    (finding,) = judged(HEAD.replace(b"CiliumNetworkPolicy", b"CiliumNetworkPolicies")).findings
    assert (finding.level, finding.field) == ("error", "kind")
    assert "did you mean CiliumNetworkPolicy?" in finding.message


def test_items_of_a_list_are_objects_with_places_of_their_own() -> None:
    good = b"{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: a}, "
    good += b"spec: {endpointSelector: {}, x: 1}}"
    report = judged(
        b"kind: List\napiVersion: v1\nitems:\n  - " + good + b"\n  - " + good.replace(b"x: 1", b"ingress: [{}]")
    )
    assert [(f.line, f.field) for f in report.findings] == [(4, "spec.x"), (5, "")], "the second is there twice"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfe", "is not UTF-8 text"),
        (
            b"a: &a [x]\n"
            + b"".join(
                b"a%d: &b%d [%s]\n" % (n, n, b",".join([b"*b%d" % (n - 1) if n else b"*a"] * 9)) for n in range(9)
            ),
            "with all aliases written out",
        ),
        (b"- " * 300, "nested deeper than"),
        (b"a: !!python/object:os.system {}\n", "is not accepted"),
        (b"<<: {a: b}\n", "merge keys"),
        (b"a: 1\na: 2\n", "stands here twice"),
        (b"\x00", "control characters|special characters"),
    ],
)
def test_hostile_text_is_a_finding(data: bytes, message: str) -> None:
    import re

    (finding,) = judged(data).findings
    assert (finding.level, finding.rule) == ("error", "syntax")
    assert re.search(message, finding.message), finding.message


def test_large_files_of_small_objects_are_taken() -> None:
    one = HEAD + b"spec: {endpointSelector: {}, ingress: [{}]}\n"
    many = b"---\n".join(one.replace(b"name: p", b"name: p%d" % n) for n in range(12_000))
    assert len(many) > 1 << 20
    assert len(judged(many).objects) == 12_000


def test_texts_of_files_folders_and_links(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.json", "sub/c.yml", ".hidden.yaml", ".git/x.yaml", "readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "again.yaml").symlink_to("b.yaml")
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(".")
    os.mkfifo(tmp_path / "pipe.yaml")
    found = {Path(text.name).name: text for text in texts([str(tmp_path), str(tmp_path / "b.yaml")])}
    assert sorted(found) == ["a.json", "again.yaml", "c.yml", "gone.yaml", "pipe.yaml", "zero.yaml"]
    assert (found["again.yaml"].data, found["pipe.yaml"].data) == (b"b.yaml", b"")
    assert found["gone.yaml"].fault == "cannot be read: No such file or directory"
    assert found["zero.yaml"].fault == "is not a file"
    assert [text.name for text in texts([str(tmp_path / "readme.md")])] == [str(tmp_path / "readme.md")]
    for missing, why in (("nope", "No such file"), ("gone.yaml", "leads nowhere")):
        with pytest.raises(CiliumpyError, match=why) as error:
            list(texts([str(tmp_path / missing)]))
        assert error.value.exit_code == 2


def test_options_come_from_a_configmap_from_an_agent_s_settings_or_one_by_one() -> None:
    configmap = {
        "kind": "ConfigMap",
        "data": {"enable-l7-proxy": "False", "policy-cidr-match-mode": "nodes", "debug": "x"},
    }
    said = from_document(configmap)
    assert (said.l7_proxy, said.cidr_match_mode) == (False, ("nodes",))
    said = from_document({"policy": {"hostFirewall": True, "enforcement": "always"}, "node": {"cluster": "blue"}})
    assert (said.host_firewall, said.enforcement, said.cluster) == (True, "always", "blue")
    assert with_named(PolicyOptions(), "allow-localhost", "auto").allow_localhost == "always"
    for document, field in (
        ({"kind": "ConfigMap", "data": {"enable-l7-proxy": "maybe"}}, "data.enable-l7-proxy"),
        ({"kind": "ConfigMap", "data": {"policy-cidr-match-mode": "nodes,cats"}}, "data.policy-cidr-match-mode"),
        ({"kind": "Secret"}, "kind"),
        ({"policy": {"hostFirewall": "often"}}, "policy.hostFirewall"),
        ({"policy": 3}, "policy"),
    ):
        with pytest.raises(FieldError) as error:
            from_document(document)
        assert str(error.value).startswith(f"{field}: ")
    with pytest.raises(FieldError, match="did you mean enable-host-firewall"):
        with_named(PolicyOptions(), "enable-hostfirewall", "true")


SARIF = {  # the properties of SARIF 2.1.0 that are used, by the object they are of; those before the bar must be there
    "log": "version runs | $schema",
    "run": "tool | results columnKind",
    "tool": "driver |",
    "driver": "name | semanticVersion rules",
    "rule": "id | shortDescription defaultConfiguration",
    "result": "message | ruleId ruleIndex level locations",
    "location": "| physicalLocation logicalLocations",
    "physical": "artifactLocation | region",
    "artifact": "uri | uriBaseId",
    "region": "startLine startColumn | snippet",
}


def shaped(value: dict, of: str) -> dict:
    must, _, may = (part.split() for part in SARIF[of].partition("|"))
    assert set(must) <= set(value) <= {*must, *may}, (of, sorted(value))
    return value


def test_sarif_is_what_its_schema_says() -> None:
    import json
    from urllib.parse import urlsplit

    from ciliumpy.cli.policy.sarif import sarif
    from ciliumpy.store.check import LEVELS, RULES

    odd = Finding("/a b/ü%.yaml", 0, 0, "", "", "error", "syntax", "is not UTF-8 text", "")
    findings = [*judged(MANY, b"# nothing\n").findings, odd]
    log = shaped(json.loads(json.dumps(sarif(findings, RULES, LEVELS))), "log")
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = shaped(shaped(shaped(run, "run")["tool"], "tool")["driver"], "driver")["rules"]
    ids = [shaped(rule, "rule")["id"] for rule in rules]
    assert len(set(ids)) == len(ids) == len(RULES)
    assert {rule["defaultConfiguration"]["level"] for rule in rules} == {"error", "warning", "note"}
    assert len(run["results"]) == len(findings)
    for result, finding in zip(run["results"], findings, strict=True):
        assert ids[shaped(result, "result")["ruleIndex"]] == result["ruleId"] == f"policy/{finding.rule}"
        assert result["level"] == finding.level
        assert result["message"]["text"]
        (location,) = (shaped(each, "location") for each in result["locations"])
        physical = shaped(location["physicalLocation"], "physical")
        uri = shaped(physical["artifactLocation"], "artifact")["uri"]
        assert " " not in uri
        assert ("uriBaseId" in physical["artifactLocation"]) is (urlsplit(uri).scheme == "")
        assert ("region" in physical) is bool(finding.line)
        if finding.line:
            region = shaped(physical["region"], "region")
            assert (region["startLine"], region["startColumn"]) == (finding.line, finding.column)
            assert region["startLine"] >= 1 <= region["startColumn"]
    assert (
        run["results"][-1]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        == "file:///a%20b/%C3%BC%25.yaml"
    )


def ask(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ciliumpy.cli", "policy", "validate", *arguments]
    return subprocess.run(command, input=data, capture_output=True, timeout=30, check=False)


def test_exit_codes_and_streams() -> None:
    good = HEAD + b"spec: {endpointSelector: {}, ingress: [{}]}\n"
    names = HEAD + b"spec: {endpointSelector: {}, egress: [{toFQDNs: [{matchName: a.example}]}]}\n"
    assert (ask("-", data=good).returncode, ask("-", data=good).stdout) == (0, b"")
    assert ask("-", data=names).returncode == 0
    assert ask("-", data=b"").returncode == 0, "nothing to refuse; said as a warning"
    assert ask("-", "--strict", data=b"").returncode == 1
    assert ask("-", "-q", data=b"").stdout == b""
    bad = ask("-", data=good + b"---\n\x1b[31m: [")
    assert bad.returncode == 1
    assert b"\x1b" not in bad.stdout + bad.stderr
    assert b"Traceback" not in bad.stderr
    assert ask("/nowhere").returncode == 2
