# SPDX-License-Identifier: Apache-2.0
"""ClusterNetworkPolicy into rules, and what of it is refused where. Verdicts: tests/unit/policy/test_truth.py."""

from __future__ import annotations

import pytest
import yaml

from ciliumpy.model.cluster_np import decode_cluster_network_policy
from ciliumpy.model.errors import FieldError, path_text
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.rule import NamedPort
from ciliumpy.model.verdicts import Tier, Verdict

ON = PolicyOptions(cluster_network_policy=True, node_selector_labels=True)
OWN = "k8s:io.cilium.k8s.policy.cluster=default"
SPACE = "k8s:io.kubernetes.pod.namespace"
HEAD = "tier: Admin, priority: 5, subject: {namespaces: {}}"


def decode(spec: str, options: PolicyOptions = ON):
    document = {"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy"}
    return decode_cluster_network_policy(document | {"metadata": {"name": "p"}, "spec": yaml.safe_load(spec)}, options)


def egress(peer: str, action: str = "Accept", options: PolicyOptions = ON):
    return decode(f"{{{HEAD}, egress: [{{action: {action}, to: [{peer}]}}]}}", options)


def test_rules_stand_in_their_tier_by_priority_and_place():
    decoded = decode(
        "{tier: Baseline, priority: 7, subject: {namespaces: {}}, ingress: ["
        "{action: Pass, name: a, from: [{namespaces: {}}]}, {action: Deny, from: [{namespaces: {}}]}],"
        "egress: [{action: Accept, to: [{namespaces: {}}]}]}"
    )
    rules = decoded.rules
    assert [rule.verdict for rule in rules] == [Verdict.PASS, Verdict.DENY, Verdict.ALLOW]
    assert [rule.tier for rule in rules] == [Tier.BASELINE] * 3
    assert [rule.priority for rule in rules] == [7, 7.001, 7]
    assert not any(rule.default_deny for rule in rules), "nothing here closes a direction"
    assert [rule.path for rule in rules] == ["spec.ingress[0]", "spec.ingress[1]", "spec.egress[0]"]


def test_no_place_in_a_policy_reaches_the_next_priority():
    rule = "{action: Deny, from: [{namespaces: {}}]}"
    rules = decode(f"{{{HEAD}, ingress: [{', '.join([rule] * 25)}]}}").rules
    assert rules[-1].priority < 6
    assert len({each.priority for each in rules}) == 25


def test_subjects_and_peers_are_pods():
    two = "{namespaceSelector: {matchLabels: {team: red}}, podSelector: {matchLabels: {a: b}}}"
    named = "k8s:a=b,k8s:io.cilium.k8s.namespace.labels.team=red"
    decoded = decode(
        f"{{tier: Admin, priority: 0, subject: {{pods: {two}}}, ingress: [{{action: Deny, from: [{{pods: {two}}}]}}]}}"
    )
    [rule] = decoded.rules
    assert str(rule.subject) == f"{named},{SPACE}"
    assert [str(peer) for peer in rule.peers] == [f"{named},{OWN},{SPACE}"]
    [rule] = egress("{namespaces: {}}").rules
    assert str(rule.subject) == SPACE
    assert [str(peer) for peer in rule.peers] == [f"{OWN},{SPACE}"]


def test_peers_outside_are_nodes_networks_and_names():
    [rule] = egress("{networks: [10.0.0.0/8, '2001:db8::/32']}, {nodes: {matchLabels: {pool: a}}}").rules
    assert [str(peer) for peer in rule.peers] == [
        "cidr:10.0.0.0/8",
        "cidr:2001-db8--0/32",
        "node:pool=a,reserved:host | node:pool=a,reserved:remote-node",
    ]
    decoded = egress("{domainNames: [Example.com, '*.example.com.']}")
    assert [str(peer) for peer in decoded.rules[0].peers] == ["fqdn:example.com", "fqdn:*.example.com"]
    assert "no DNS proxy" in decoded.notices[0].message


def test_protocols_are_ports_of_each_and_names_are_looked_for_in_all():
    entries = (
        "{tcp: {destinationPort: {number: 80}}}, {udp: {destinationPort: {range: {start: 1, end: 9}}}}, {sctp: {}},"
        "{destinationNamedPort: HTTP}"
    )
    [rule] = decode(
        f"{{{HEAD}, ingress: [{{action: Deny, from: [{{namespaces: {{}}}}], protocols: [{entries}]}}]}}"
    ).rules
    numbers = [(p.protocol, p.first, p.last) for p in rule.ports if not isinstance(p, NamedPort)]
    assert numbers == [(6, 80, 80), (17, 1, 9), (132, 0, 65535)]
    assert [(p.protocol, p.name) for p in rule.ports if isinstance(p, NamedPort)] == [
        (6, "http"),
        (17, "http"),
        (132, "http"),
    ]
    [rule] = egress("{namespaces: {}}").rules
    assert rule.ports is None


def test_where_the_kind_is_off_a_policy_has_no_effect_and_says_which_key_is_to_be_set():
    decoded = egress("{namespaces: {}}", options=PolicyOptions())
    assert decoded.rules == ()
    [notice] = decoded.notices
    assert path_text(notice.path) == "spec"
    assert "policy.clusterNetworkPolicy" in notice.message
    with pytest.raises(FieldError):
        egress("{namespaces: 7}", options=PolicyOptions())


RANGE = "{{destinationPort: {{range: {{{}}}}}}}"
RULE = "action: Deny, from: [{namespaces: {}}]"


@pytest.mark.parametrize(
    ("spec", "path", "said"),
    [
        ("null", "spec", "is missing"),
        ("{priority: 1, subject: {namespaces: {}}}", "spec.tier", "is missing"),
        ("{tier: admin, priority: 1, subject: {namespaces: {}}}", "spec.tier", "did you mean Admin?"),
        ("{tier: Admin, subject: {namespaces: {}}}", "spec.priority", "is missing"),
        ("{tier: Admin, priority: 1001, subject: {namespaces: {}}}", "spec.priority", "from 0 to 1000"),
        ("{tier: Admin, priority: -1, subject: {namespaces: {}}}", "spec.priority", "from 0 to 1000"),
        ("{tier: Admin, priority: '5', subject: {namespaces: {}}}", "spec.priority", "must be a number"),
        ("{tier: Admin, priority: 1}", "spec.subject", "is missing"),
        ("{tier: Admin, priority: 1, subject: {}}", "spec.subject", "must have one of"),
        ("{tier: Admin, priority: 1, subject: {podz: {}}}", "spec.subject.podz", "did you mean pods?"),
        (
            "{tier: Admin, priority: 1, subject: {namespaces: {}, pods: {}}}",
            "spec.subject.pods",
            "cannot stand beside namespaces",
        ),
        (
            "{tier: Admin, priority: 1, subject: {pods: {podSelector: {}}}}",
            "spec.subject.pods.namespaceSelector",
            "is missing",
        ),
        (f"{{{HEAD}, ingres: []}}", "spec.ingres", "did you mean ingress?"),
        (f"{{{HEAD}, ingress: [{{from: [{{namespaces: {{}}}}]}}]}}", "spec.ingress[0].action", "is missing"),
        (f"{{{HEAD}, ingress: [{{action: Allow}}]}}", "spec.ingress[0].action", "must be one of Accept, Deny, Pass"),
        (f"{{{HEAD}, ingress: [{{action: Deny}}]}}", "spec.ingress[0].from", "is missing"),
        (f"{{{HEAD}, ingress: [{{action: Deny, from: []}}]}}", "spec.ingress[0].from", "at least one entry"),
        (
            f"{{{HEAD}, ingress: [{{action: Deny, from: [{{networks: [10.0.0.0/8]}}]}}]}}",
            "spec.ingress[0].from[0].networks",
            "unknown field",
        ),
        (f"{{{HEAD}, egress: [{{action: Deny, to: [{{networks: []}}]}}]}}", "spec.egress[0].to[0].networks", "least"),
        (
            f"{{{HEAD}, egress: [{{action: Deny, to: [{{networks: [1.2.3.4]}}]}}]}}",
            "spec.egress[0].to[0].networks[0]",
            "no prefix length",
        ),
        (
            f"{{{HEAD}, egress: [{{action: Deny, to: [{{domainNames: [a.b]}}]}}]}}",
            "spec.egress[0].to[0].domainNames",
            "can only be accepted",
        ),
        (
            f"{{{HEAD}, egress: [{{action: Accept, to: [{{domainNames: ['a b']}}]}}]}}",
            "spec.egress[0].to[0].domainNames[0]",
            "not a domain name",
        ),
        (f"{{{HEAD}, ingress: [{{{RULE}, protocols: [{{}}]}}]}}", "spec.ingress[0].protocols[0]", "must have one of"),
        (
            f"{{{HEAD}, ingress: [{{{RULE}, protocols: [{{tcp: {{}}, udp: {{}}}}]}}]}}",
            "spec.ingress[0].protocols[0].udp",
            "cannot stand beside tcp",
        ),
        (
            f"{{{HEAD}, ingress: [{{{RULE}, protocols: [{{tcp: {{destinationPort: {{}}}}}}]}}]}}",
            "spec.ingress[0].protocols[0].tcp.destinationPort",
            "must have one of number, range",
        ),
        (
            f"{{{HEAD}, ingress: [{{{RULE}, protocols: [{{tcp: {RANGE.format('start: 9, end: 8')}}}]}}]}}",
            "spec.ingress[0].protocols[0].tcp.destinationPort.range.end",
            "before the start",
        ),
        (
            f"{{{HEAD}, ingress: [{{{RULE}, protocols: [{{tcp: {RANGE.format('start: 9')}}}]}}]}}",
            "spec.ingress[0].protocols[0].tcp.destinationPort.range.end",
            "is missing",
        ),
        (f"{{{HEAD}, ingress: [{', '.join(['{' + RULE + '}'] * 26)}]}}", "spec.ingress", "at most 25"),
    ],
)
def test_what_no_api_server_takes_is_refused_with_its_path(spec: str, path: str, said: str):
    with pytest.raises(FieldError) as caught:
        decode(spec)
    assert path_text(caught.value.path) == path
    assert said in caught.value.message


def test_nodes_need_their_labels():
    with pytest.raises(FieldError, match=r"policy\.nodeSelectorLabels"):
        egress("{nodes: {}}", options=PolicyOptions(cluster_network_policy=True))
