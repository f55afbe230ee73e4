# SPDX-License-Identifier: Apache-2.0
"""Policies as users write them: what is refused and where, what is not supported and what happens instead."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ciliumpy.model.cnp import decode_policy
from ciliumpy.model.errors import FieldError, path_text
from ciliumpy.model.ports import PortRange
from ciliumpy.model.rule import DecodedPolicy
from ciliumpy.model.verdicts import Direction, Verdict


def decode(spec: str, *, kind: str = "CiliumNetworkPolicy", namespace: str = "shop") -> DecodedPolicy:
    document: dict[str, Any] = {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": {"name": "p"}}
    if kind == "CiliumNetworkPolicy":
        document["metadata"]["namespace"] = namespace
    return decode_policy(document | yaml.safe_load(spec))


IN = "spec: {endpointSelector: {}, ingress: [%s]}"
OUT = "spec: {endpointSelector: {}, egress: [%s]}"

REFUSED = [
    (IN % '{toPorts: [{ports: [{port: "70000"}]}]}', "spec.ingress[0].toPorts[0].ports[0].port: 70000 is not a port: "),
    (IN % "{toPorts: [{ports: [{port: 70000}]}]}", "spec.ingress[0].toPorts[0].ports[0].port: 70000 is not a port: "),
    (IN % "{toPorts: [{ports: [{port: 8.5}]}]}", "spec.ingress[0].toPorts[0].ports[0].port: must be a port number or"),
    (IN % "{toPorts: [{ports: [{port: true}]}]}", "spec.ingress[0].toPorts[0].ports[0].port: must be a port number or"),
    (
        IN % "{toPorts: [{ports: [{port: 1, endPort: x}]}]}",
        "spec.ingress[0].toPorts[0].ports[0].endPort: must be a num",
    ),
    (IN % "{toPorts: {ports: []}}", "spec.ingress[0].toPorts: must be a list, not a mapping"),
    (IN % "{toPorts: [80]}", "spec.ingress[0].toPorts[0]: must be a mapping, not a number"),
    (IN % "{toPorts: [{port: []}]}", "spec.ingress[0].toPorts[0].port: unknown field, did you mean ports?"),
    (IN % "{fromEndpoint: [{}]}", "spec.ingress[0].fromEndpoint: unknown field, did you mean fromEndpoints?"),
    (IN % "{toEndpoints: [{}]}", "spec.ingress[0].toEndpoints: unknown field"),
    ("spec: {endpointSelector: {}, ingres: [{}]}", "spec.ingres: unknown field, did you mean ingress?"),
    ("spec: {endpointSelector: {matchLabel: {}}, ingress: [{}]}", "spec.endpointSelector.matchLabel: unknown field, "),
    ("specs: [{endpointSelector: {}, egress: [{}]}, {egress: [{}]}]", "specs[1].endpointSelector: is missing"),
    ("{}", "spec: is missing: a policy needs spec or specs"),
    ("specs: []", "spec: is missing: a policy needs spec or specs"),
    ("spec: []", "spec: must be a mapping, not a list"),
    ("spec: {endpointSelector: {}}", "spec: needs at least one rule in ingress, ingressDeny, egress or egressDeny"),
    ("spec: {ingress: [{}]}", "spec.endpointSelector: is missing: write {} to select every pod"),
    ("spec: {endpointSelector: null, ingress: [{}]}", "spec.endpointSelector: is missing"),
    (
        "spec: {endpointSelector: {matchLabels: {app: 80}}, ingress: [{}]}",
        "spec.endpointSelector.matchLabels.app: must be text, not a number; put it in quotes",
    ),
    (
        "spec: {endpointSelector: {matchLabels: {k8s:app: [x]}}, ingress: [{}]}",
        'spec.endpointSelector.matchLabels["k8s:app"]: must be text, not a list',
    ),
    (
        "spec: {endpointSelector: {1: 2}, ingress: [{}]}",
        "spec.endpointSelector: field names must be text, not a number 1",
    ),
    (IN % "{fromEntities: [internet]}", "spec.ingress[0].fromEntities[0]: unknown entity 'internet': use one of all, "),
    (IN % "{fromCIDR: [8.8.8.8]}", "spec.ingress[0].fromCIDR[0]: '8.8.8.8' has no prefix length: write 8.8.8.8/32"),
    (
        IN % "{fromEntities: [host], fromEndpoints: [{}]}",
        "spec.ingress[0].fromEntities: cannot stand beside fromEndpoints",
    ),
    (OUT % "{icmps: [{fields: [{type: 300}]}]}", "spec.egress[0].icmps[0].fields[0].type: 300 is not a message type"),
    (
        "spec: {endpointSelector: {}, enableDefaultDeny: {ingress: 'no'}, ingress: [{}]}",
        "spec.enableDefaultDeny.ingress: must be true or false, not text",
    ),
]


@pytest.mark.parametrize(("spec", "message"), REFUSED, ids=[message.split(":")[0] for _, message in REFUSED])
def test_refused_with_the_field(spec, message):
    with pytest.raises(FieldError) as caught:
        decode(spec)
    assert str(caught.value).startswith(message)
    assert caught.value.path
    assert path_text(caught.value.path) in str(caught.value)


def test_absent_empty_and_one_empty_are_three_things():
    def peers(rule: str) -> tuple[str, ...] | None:
        [found] = decode(IN % rule).rules
        return None if found.peers is None else tuple(map(str, found.peers))

    own = "k8s:io.cilium.k8s.policy.cluster=default,k8s:io.kubernetes.pod.namespace=shop"
    assert peers("{toPorts: [{ports: [{port: '80'}]}]}") is None
    assert peers("{}") == ()
    assert peers("{fromEndpoints: []}") == ()
    assert peers("{fromEndpoints: [], toPorts: [{ports: [{port: '80'}]}]}") == ()
    assert peers("{fromEndpoints: [{}]}") == (own,)
    assert peers("{fromEntities: [all]}") == ("everybody",)


def test_ports():
    def ports(rule: str) -> tuple[PortRange, ...] | None:
        return decode(OUT % rule).rules[0].ports

    assert ports("{toEntities: [all]}") is None
    assert ports("{toEntities: [all], toPorts: []}") is None
    assert ports("{toEntities: [all], toPorts: [{}]}") == ()
    assert ports("{toPorts: [{ports: [{port: 8080, protocol: TCP}]}]}") == (PortRange(6, 8080, 8080),)
    assert ports("{toPorts: [{ports: [{port: '53'}]}]}") == tuple(PortRange(p, 53, 53) for p in (6, 17, 132))
    assert ports("{toPorts: [{ports: [{port: '0', protocol: UDP}]}]}") == (PortRange(17, 0, 65535),)
    assert ports("{toPorts: [{ports: [{port: '80', endPort: 90, protocol: TCP}]}]}") == (PortRange(6, 80, 90),)
    assert ports("{toPorts: [{ports: [{port: '80', endPort: 70, protocol: TCP}]}]}") == (PortRange(6, 80, 80),)
    assert ports("{icmps: [{fields: [{type: EchoRequest}]}]}") == (PortRange(1, 8, 8),)
    assert ports("{icmps: [{fields: [{type: 128, family: IPv6}]}]}") == (PortRange(58, 128, 128),)


def test_namespaces_of_peers_and_subject():
    [rule] = decode(
        "spec: {endpointSelector: {matchLabels: {k8s:io.kubernetes.pod.namespace: guest, app: web}},"
        " ingress: [{fromEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: guest}}]}]}"
    ).rules
    assert str(rule.subject) == "any:app=web,k8s:io.kubernetes.pod.namespace=shop"
    assert [str(p) for p in rule.peers] == [
        "any:io.kubernetes.pod.namespace=guest,k8s:io.cilium.k8s.policy.cluster=default"
    ]
    [wide] = decode(IN % "{fromEndpoints: [{}]}", kind="CiliumClusterwideNetworkPolicy").rules
    assert [str(p) for p in wide.peers] == ["k8s:io.cilium.k8s.policy.cluster=default,k8s:io.kubernetes.pod.namespace"]


ALLOWS = [
    (OUT % "{toCIDR: [10.0.0.0/8]}", "spec.egress[0].toCIDR"),
    (OUT % "{toFQDNs: [{matchName: example.com}]}", "spec.egress[0].toFQDNs"),
    (OUT % "{toServices: [{k8sService: {serviceName: x}}]}", "spec.egress[0].toServices"),
    (IN % "{fromCIDRSet: [{cidr: 10.0.0.0/8}]}", "spec.ingress[0].fromCIDRSet"),
    (IN % "{fromEntities: [all], authentication: {mode: required}}", "spec.ingress[0].authentication"),
    (IN % "{toPorts: [{ports: [{port: http}]}]}", "spec.ingress[0].toPorts[0].ports[0].port"),
    (
        IN % "{toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [{path: /}]}}]}",
        "spec.ingress[0].toPorts[0].rules",
    ),
]


@pytest.mark.parametrize("off", [False, True], ids=["closing", "default deny off"])
@pytest.mark.parametrize(("spec", "path"), ALLOWS, ids=[path for _, path in ALLOWS])
def test_what_is_not_supported_grants_nothing_and_closes(spec, path, off):
    if off:
        spec = spec.replace("endpointSelector", "enableDefaultDeny: {ingress: false, egress: false}, endpointSelector")
    decoded = decode(spec)
    [rule] = decoded.rules
    [notice] = decoded.notices
    assert path_text(notice.path) == path
    assert notice.message.endswith("not supported by this version: grants nothing")
    assert rule.peers == () or rule.ports == ()
    assert rule.default_deny


def test_the_supported_ports_of_a_rule_count_beside_the_others():
    decoded = decode(IN % "{toPorts: [{ports: [{port: http}, {port: '81', protocol: TCP}]}]}")
    assert decoded.rules[0].ports == (PortRange(6, 81, 81),)
    assert len(decoded.notices) == 1


def test_a_deny_that_is_not_supported_denies_more_not_less():
    decoded = decode(
        "spec: {endpointSelector: {}, egressDeny: [{toCIDR: [10.0.0.0/8]}, {toServices: [{}]},"
        " {toPorts: [{ports: [{port: http, protocol: TCP}]}]}]}"
    )
    cidr, services, port = decoded.rules
    assert {rule.verdict for rule in decoded.rules} == {Verdict.DENY}
    assert [str(p) for p in cidr.peers] == ["reserved:world | reserved:world-ipv4 | reserved:world-ipv6"]
    assert [str(p) for p in services.peers] == ["everybody"]
    assert (port.peers, port.ports) == (None, (PortRange(6, 0, 65535),))
    assert [notice.message.rpartition(": ")[2] for notice in decoded.notices] == [
        "the world is denied instead",
        "everybody denied instead",
        "all ports of the protocol denied instead",
    ]


def test_a_node_policy_says_that_it_has_no_effect():
    spec = "spec: {nodeSelector: {}, ingress: [{fromEntities: [cluster]}]}"
    decoded = decode(spec, kind="CiliumClusterwideNetworkPolicy")
    assert decoded.rules == ()
    assert decoded.notices[0].message == "has no effect: this version has no host firewall"


def test_every_list_of_rules_has_its_direction_and_verdict():
    decoded = decode(
        "spec: {endpointSelector: {}, ingress: [{}], ingressDeny: [{}], egress: [{}, {}], egressDeny: [{}],"
        " enableDefaultDeny: {egress: false}}"
    )
    assert [(r.path, r.direction, r.verdict, r.default_deny) for r in decoded.rules] == [
        ("spec.ingress[0]", Direction.INGRESS, Verdict.ALLOW, True),
        ("spec.ingressDeny[0]", Direction.INGRESS, Verdict.DENY, True),
        ("spec.egress[0]", Direction.EGRESS, Verdict.ALLOW, False),
        ("spec.egress[1]", Direction.EGRESS, Verdict.ALLOW, False),
        ("spec.egressDeny[0]", Direction.EGRESS, Verdict.DENY, False),
    ]
