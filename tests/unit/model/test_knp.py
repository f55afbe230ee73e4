# SPDX-License-Identifier: Apache-2.0
"""NetworkPolicy into rules, and what of it is refused where. Verdicts: tests/unit/policy/test_truth.py."""

from __future__ import annotations

import pytest
import yaml

from ciliumpy.model.errors import FieldError
from ciliumpy.model.knp import decode_network_policy
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.verdicts import Direction, Tier, Verdict

OWN = "k8s:io.cilium.k8s.policy.cluster=default"
SPACE = "k8s:io.kubernetes.pod.namespace"


def decode(spec: str, options: PolicyOptions = PolicyOptions()):  # noqa: B008 - frozen
    document = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    document["metadata"] = {"name": "p", "namespace": "shop"}
    return decode_network_policy(document | yaml.safe_load(spec), options).rules


def peers(spec: str, options: PolicyOptions = PolicyOptions()) -> list[str]:  # noqa: B008
    [rule] = decode(f"spec: {{podSelector: {{}}, ingress: [{{from: [{spec}]}}]}}", options)
    return [str(peer) for peer in rule.peers]


def ports(spec: str) -> list[str]:
    [rule] = decode(f"spec: {{podSelector: {{}}, ingress: [{{ports: [{spec}]}}]}}")
    return [
        f"{int(port.protocol)}/" + (port.name if hasattr(port, "name") else f"{port.first}-{port.last}")
        for port in rule.ports
    ]


def test_the_subject_is_of_the_policy_s_namespace():
    [rule] = decode("spec: {podSelector: {matchLabels: {app: db}}}")
    assert str(rule.subject) == f"k8s:app=db,{SPACE}=shop"
    assert (rule.tier, rule.priority, rule.default_deny, rule.node) == (Tier.NORMAL, 0, True, False)
    assert [str(r.subject) for r in decode("{}")] == [f"{SPACE}=shop"], "an empty spec is about all of them"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{}", [("INGRESS", ())]),
        ("{policyTypes: []}", [("INGRESS", ())]),
        ("{policyTypes: [Ingress]}", [("INGRESS", ())]),
        ("{policyTypes: [Egress]}", [("EGRESS", ())]),
        ("{policyTypes: [Egress, Ingress]}", [("INGRESS", ()), ("EGRESS", ())]),
        ("{ingress: [], egress: []}", [("INGRESS", ())]),
        ("{ingress: [{}]}", [("INGRESS", None)]),
        ("{egress: [{}]}", [("INGRESS", ()), ("EGRESS", None)]),
        ("{egress: [{}], policyTypes: [Ingress]}", [("INGRESS", ()), ("EGRESS", None)]),
        ("{ingress: [{}], policyTypes: [Egress]}", [("INGRESS", None), ("EGRESS", ())]),
    ],
)
def test_which_directions_are_closed_and_what_is_open_in_them(spec: str, expected: list):
    rules = decode(f"spec: {spec}")
    assert [(rule.direction.name, rule.peers) for rule in rules] == expected
    assert all(rule.default_deny and rule.ports is None and rule.verdict is Verdict.ALLOW for rule in rules)


def test_rules_name_the_place_where_they_stand():
    rules = decode("spec: {policyTypes: [Egress, Ingress], egress: [{}, {to: []}]}")
    assert [rule.path for rule in rules] == ["spec.policyTypes[1]", "spec.egress[0]", "spec.egress[1]"]
    assert [rule.path for rule in decode("spec: {}")] == ["spec"]
    assert [rule.direction for rule in rules] == [Direction.INGRESS, Direction.EGRESS, Direction.EGRESS]


def test_peers_are_pods_of_the_policy_s_namespace_or_of_those_that_are_named():
    assert peers("{podSelector: {}}") == [f"{OWN},{SPACE}=shop"]
    assert peers("{podSelector: {matchLabels: {a: b}}}") == [f"k8s:a=b,{OWN},{SPACE}=shop"]
    assert peers("{namespaceSelector: {}}") == [f"{OWN},{SPACE}"]
    [team] = peers("{namespaceSelector: {matchLabels: {team: red}}, podSelector: {matchLabels: {a: b}}}")
    assert team == f"k8s:a=b,k8s:io.cilium.k8s.namespace.labels.team=red,{OWN},{SPACE}"
    [other] = peers("{namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}}")
    assert other == f"!k8s:io.cilium.k8s.namespace.labels.team,{OWN},{SPACE}", "pods only: no node, not the world"


def test_blocks_are_prefixes_outside_without_their_exceptions():
    assert peers("{ipBlock: {cidr: 10.1.2.3/8}}") == ["cidr:10.0.0.0/8"]
    assert peers("{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}") == ["cidr:10.0.0.0/8,!cidr:10.1.0.0/16"]
    assert peers("{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}") == ["nobody"]
    assert peers("{ipBlock: {cidr: '2001:db8::/32'}}") == ["cidr:2001-db8--0/32"]
    assert peers("{ipBlock: {cidr: 0.0.0.0/0}}") == ["cidr:0.0.0.0/0 | reserved:world-ipv4"]
    alone = PolicyOptions(ipv6=False)
    assert peers("{ipBlock: {cidr: 0.0.0.0/0}}", alone) == ["cidr:0.0.0.0/0 | reserved:world"]
    assert peers("{ipBlock: {cidr: '::/0'}}", alone) == ["cidr:0--0/0"]


def test_ports_are_of_tcp_unless_they_say_otherwise():
    assert ports("{port: 80}, {protocol: SCTP, port: 9}, {protocol: UDP}") == ["6/80-80", "132/9-9", "17/0-65535"]
    assert ports("{}") == ["6/0-65535"]
    assert ports("{port: HTTP}, {protocol: UDP, port: dns}") == ["6/http", "17/dns"]
    assert ports("{port: 80, endPort: 90}, {port: 80, endPort: 70}") == ["6/80-90", "6/80-80"]
    [rule] = decode("spec: {ingress: [{ports: []}]}")
    assert rule.ports is None


@pytest.mark.parametrize(
    ("spec", "path", "said"),
    [
        ("[]", "spec", "must be a mapping"),
        ("{podselector: {}}", "spec.podselector", "did you mean podSelector?"),
        ("{podSelector: {matchLabels: {'k8s:app': x}}}", "spec.podSelector", "keys have no source"),
        ("{podSelector: {matchLabels: {app: 'a b'}}}", "spec.podSelector.matchLabels.app", "not a label value"),
        ("{policyTypes: [ingress]}", "spec.policyTypes[0]", "must be Ingress or Egress"),
        ("{policyTypes: Ingress}", "spec.policyTypes", "must be a list"),
        ("{ingress: {from: []}}", "spec.ingress", "must be a list"),
        ("{ingress: [{to: []}]}", "spec.ingress[0].to", "unknown field"),
        ("{egress: [{from: []}]}", "spec.egress[0].from", "unknown field"),
        ("{ingress: [{from: [{}]}]}", "spec.ingress[0].from[0]", "selects by nothing"),
        ("{ingress: [{from: [{ipBlock: {}}]}]}", "spec.ingress[0].from[0].ipBlock.cidr", "is missing"),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 1.2.3.4}}]}]}",
            "spec.ingress[0].from[0].ipBlock.cidr",
            "1.2.3.4/32",
        ),
        (
            "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]}",
            "spec.egress[0].to[0].ipBlock.except[0]",
            "is not part of 10.0.0.0/8",
        ),
        (
            "{ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]}",
            "spec.ingress[0].from[0].ipBlock",
            "cannot stand beside podSelector",
        ),
        ("{ingress: [{ports: [{port: 0}]}]}", "spec.ingress[0].ports[0].port", "from 1 to 65535"),
        ("{ingress: [{ports: [{port: 65536}]}]}", "spec.ingress[0].ports[0].port", "from 1 to 65535"),
        ("{ingress: [{ports: [{port: true}]}]}", "spec.ingress[0].ports[0].port", "must be a number"),
        ("{ingress: [{ports: [{port: '80'}]}]}", "spec.ingress[0].ports[0].port", "write the number without"),
        ("{ingress: [{ports: [{port: a--b}]}]}", "spec.ingress[0].ports[0].port", "not a port name"),
        ("{ingress: [{ports: [{endPort: 9}]}]}", "spec.ingress[0].ports[0].endPort", "needs a port"),
        ("{ingress: [{ports: [{port: a, endPort: 9}]}]}", "spec.ingress[0].ports[0].endPort", "beside the name"),
        ("{ingress: [{ports: [{protocol: tcp}]}]}", "spec.ingress[0].ports[0].protocol", "did you mean TCP?"),
        ("{ingress: [{ports: [{protocol: ANY}]}]}", "spec.ingress[0].ports[0].protocol", "must be one of"),
    ],
)
def test_what_no_api_server_takes_is_refused_with_its_path(spec: str, path: str, said: str):
    with pytest.raises(FieldError) as caught:
        decode(f"spec: {spec}")
    assert str(caught.value).startswith(path)
    assert said in caught.value.message
