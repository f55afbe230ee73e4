# SPDX-License-Identifier: Apache-2.0
"""Policies as users write them, and the rules that they become."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ciliumpy.model.cnp import decode_policy
from ciliumpy.model.errors import FieldError, path_text
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.ports import PortRange
from ciliumpy.model.rule import DecodedPolicy, NamedPort, Proxy, ServicePeer
from ciliumpy.model.verdicts import Direction, Verdict

DEFAULTS = PolicyOptions()


def decode(
    spec: str,
    *,
    kind: str = "CiliumNetworkPolicy",
    namespace: str = "shop",
    options: PolicyOptions = DEFAULTS,
) -> DecodedPolicy:
    document: dict[str, Any] = {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": {"name": "p"}}
    if kind == "CiliumNetworkPolicy":
        document["metadata"]["namespace"] = namespace
    return decode_policy(document | yaml.safe_load(spec), options)


IN = "spec: {endpointSelector: {}, ingress: [%s]}"
OUT = "spec: {endpointSelector: {}, egress: [%s]}"


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


def test_an_empty_list_beside_another_is_nobody_but_takes_nothing_from_a_denial():
    spec = (
        "spec: {endpointSelector: {}, %s: [{fromEndpoints: [], fromEntities: [host], toPorts: [{ports: [{port: 1}]}]}]}"
    )
    allow, deny = decode(spec % "ingress"), decode(spec % "ingressDeny")
    assert allow.rules[0].peers == ()
    assert [str(peer) for peer in deny.rules[0].peers] == ["reserved:host"]
    assert [path_text(d.notices[0].path).rpartition(".")[2] for d in (allow, deny)] == ["fromEndpoints"] * 2


def test_an_empty_list_of_services_or_groups_is_never_wider_than_it_says():
    spec = "spec: {endpointSelector: {}, %s: [{%s: [], toPorts: [{ports: [{port: 1}]}]}]}"
    for name in ("toServices", "toGroups"):
        assert decode(spec % ("egress", name)).rules[0].peers == ()
        assert decode(spec % ("egressDeny", name)).rules[0].peers is None, "anybody, as Cilium has it"


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


def selected(rule: str, spec: str = IN, options: PolicyOptions = DEFAULTS, **kind: Any) -> list[str]:
    [found] = decode(spec % rule, options=options, **kind).rules
    return [str(peer) for peer in found.peers]


def test_prefixes():
    assert selected("{fromCIDR: [10.1.2.3/8, '2001:db8::1/32']}") == ["cidr:10.0.0.0/8", "cidr:2001-db8--0/32"]
    assert selected("{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.0.0/16]}]}") == [
        "cidr:10.0.0.0/8,!cidr:10.1.0.0/16,!cidr:10.2.0.0/16"
    ]
    assert selected("{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}]}") == ["nobody"]


@pytest.mark.parametrize(
    ("families", "v4", "v6"),
    [
        ({}, "cidr:0.0.0.0/0 | reserved:world-ipv4", "cidr:0--0/0 | reserved:world-ipv6"),
        ({"ipv6": False}, "cidr:0.0.0.0/0 | reserved:world", "cidr:0--0/0"),
        ({"ipv4": False}, "cidr:0.0.0.0/0", "cidr:0--0/0 | reserved:world"),
    ],
)
def test_the_prefix_of_all_addresses_is_its_familys_world(families, v4, v6):
    options = PolicyOptions(**families)
    assert selected("{fromCIDR: [0.0.0.0/0, '::/0']}", options=options) == [v4, v6]
    assert selected("{fromCIDRSet: [{cidr: 0.0.0.0/0, except: [10.0.0.0/8]}]}") == [
        "cidr:0.0.0.0/0,!cidr:10.0.0.0/8 | !cidr:10.0.0.0/8,reserved:world-ipv4"
    ]


def test_cidr_groups():
    assert selected("{fromCIDRSet: [{cidrGroupRef: vpn, except: [10.0.0.0/8]}]}") == [
        "!cidr:10.0.0.0/8,cidrgroup:io.cilium.policy.cidrgroupname/vpn"
    ]
    assert selected("{fromCIDRSet: [{cidrGroupSelector: {matchLabels: {kind: vpn}}}]}") == ["cidrgroup:kind=vpn"]
    absent = "{fromCIDRSet: [{cidrGroupSelector: {matchExpressions: [{key: kind, operator: DoesNotExist}]}}]}"
    assert selected(absent) == [
        "!cidrgroup:kind,reserved:world | !cidrgroup:kind,reserved:world-ipv4 | !cidrgroup:kind,reserved:world-ipv6"
    ]


def test_nodes():
    with_labels = PolicyOptions(node_selector_labels=True)
    assert selected("{fromNodes: [{matchLabels: {pool: db}}]}", options=with_labels) == [
        "node:pool=db,reserved:host | node:pool=db,reserved:remote-node"
    ]
    assert decode(IN % "{fromNodes: []}").rules[0].peers == ()
    with pytest.raises(FieldError, match=r"set policy\.nodeSelectorLabels"):
        decode(IN % "{fromNodes: [{}]}")


def test_services():
    [rule] = decode(
        OUT % "{toServices: [{k8sService: {serviceName: db, namespace: shop}},"
        " {k8sServiceSelector: {selector: {matchLabels: {app: db}}}}]}"
    ).rules
    named, chosen = rule.peers
    assert named == ServicePeer("shop", "db")
    assert (chosen.namespace, chosen.name, str(chosen.labels)) == ("", "", "any:app=db")
    decoded = decode(OUT % "{toServices: [{}, {k8sService: {namespace: shop}}]}")
    assert decoded.rules[0].peers == ()
    assert [path_text(notice.path) for notice in decoded.notices] == [
        "spec.egress[0].toServices[0]",
        "spec.egress[0].toServices[1].k8sService",
    ]


def test_dns_names_select_nobody_yet():
    decoded = decode(OUT % "{toFQDNs: [{matchName: Example.com.}, {matchPattern: '*.Example.com'}]}")
    assert [str(peer) for peer in decoded.rules[0].peers] == ["fqdn:example.com", "fqdn:*.example.com"]
    assert decoded.notices[0].message.startswith("selects nobody: there is no DNS proxy")


def test_groups_of_a_cloud_grant_nothing_and_deny_the_world():
    spec = "spec: {endpointSelector: {}, enableDefaultDeny: {egress: false}, %s: [{toGroups: [{aws: {region: x}}]}]}"
    allow, deny = decode(spec % "egress"), decode(spec % "egressDeny")
    assert (allow.rules[0].peers, allow.rules[0].default_deny) == ((), True)
    assert [str(p) for p in deny.rules[0].peers] == ["reserved:world | reserved:world-ipv4 | reserved:world-ipv6"]
    assert [d.notices[0].message.rpartition(": ")[2] for d in (allow, deny)] == [
        "grants nothing",
        "all the world is denied instead",
    ]


def test_pods_without_labels_yet_may_have_any_peer_of_the_cluster():
    init = "spec: {endpointSelector: {matchLabels: {'reserved:init': ''}}, ingress: [%s]}"
    kind = "CiliumClusterwideNetworkPolicy"
    assert selected("{fromEndpoints: [{}]}", init, kind=kind) == ["k8s:io.cilium.k8s.policy.cluster=default"]
    assert selected("{fromEndpoints: [{matchLabels: {'reserved:host': ''}}]}", init, kind=kind) == ["reserved:host="]
    own = "k8s:io.cilium.k8s.policy.cluster=default,k8s:io.kubernetes.pod.namespace=shop"
    assert selected("{fromEndpoints: [{}]}", init) == [own]


def test_a_node_policy_is_about_the_host_and_its_labels():
    spec = "spec: {nodeSelector: {matchLabels: {pool: db}}, ingress: [{fromEntities: [cluster]}]}"
    kind = "CiliumClusterwideNetworkPolicy"
    off = decode(spec, kind=kind)
    assert off.rules == ()
    assert off.notices[0].message.startswith("has no effect while the host firewall is off")
    on = decode(spec, kind=kind, options=PolicyOptions(host_firewall=True))
    assert [(rule.node, str(rule.subject)) for rule in on.rules] == [(True, "node:pool=db,reserved:host")]
    assert not on.notices


def test_a_source_that_no_label_has_is_said():
    decoded = decode("spec: {endpointSelector: {matchLabels: {'k8:app': web}}, ingress: [{}]}")
    assert [(path_text(n.path), n.message) for n in decoded.notices] == [
        ("spec.endpointSelector", "no label has the source 'k8', did you mean k8s:app?")
    ]


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


WEB = "toPorts: [{ports: [{port: '80', protocol: TCP}], %s}]"
PROXIED = [
    (IN, "rules: {http: [{method: GET, path: /public}, {}]}", 101, "http", "http GET /public, any request"),
    (IN, "rules: {http: [{host: a.example, headers: [X-Y 1]}]}", 101, "http", "http a.example with headers"),
    (OUT, "rules: {dns: [{matchPattern: '*'}]}", 121, "dns", "dns *"),
    (IN, "rules: {l7proto: test, l7: [{a: b}]}", 111, "l7", "l7 test"),
    (OUT, "serverNames: [a.example, b.example]", 116, "tls", "tls a.example, b.example"),
    (IN, "terminatingTLS: {secret: {name: key, namespace: vault}}", 116, "tls", "tls secret vault/key"),
    (IN, "terminatingTLS: {secret: {name: k}}, rules: {http: [{}]}", 101, "http", "http any request"),
    (OUT, "listener: {envoyConfig: {name: conf}, name: ear}", 126, "listener", "listener conf/ear"),
    (OUT, "listener: {envoyConfig: {name: conf}, name: ear, priority: 7}", 7, "listener", "listener conf/ear"),
    (OUT, "serverNames: [x], listener: {envoyConfig: {name: conf}, name: ear}", 126, "listener", "listener conf/ear"),
]


@pytest.mark.parametrize(("spec", "asked", "priority", "kind", "summary"), PROXIED, ids=[p[1] for p in PROXIED])
def test_what_is_for_a_proxy_is_a_redirect(spec, asked, priority, kind, summary):
    decoded = decode(spec % ("{" + WEB % asked + "}"))
    [rule], [notice] = decoded.rules, decoded.notices
    assert (rule.verdict, rule.proxy) == (Verdict.REDIRECT, Proxy(priority, kind, summary))
    assert rule.path.endswith("gress[0].toPorts[0]")
    assert rule.ports == (PortRange(6, 80, 80),)
    assert notice.message == "is for a proxy, and none is served yet: what it is about is dropped"


def test_an_empty_list_of_rules_is_no_rule():
    [rule] = decode(IN % ("{" + WEB % "rules: {http: []}" + "}")).rules
    assert (rule.verdict, rule.proxy) == (Verdict.ALLOW, None)


def test_parts_for_proxies_are_rules_of_their_own():
    decoded = decode(
        IN % "{toPorts: [{ports: [{port: '1'}]}, {ports: [{port: '2', protocol: TCP}], rules: {http: [{}]}},"
        " {ports: [{port: '3', protocol: UDP}]}]}"
    )
    assert [(rule.path, rule.verdict, [port.first for port in rule.ports]) for rule in decoded.rules] == [
        ("spec.ingress[0]", Verdict.ALLOW, [1, 1, 1, 3]),
        ("spec.ingress[0].toPorts[1]", Verdict.REDIRECT, [2]),
    ]


def test_a_long_summary_is_cut():
    asked = f"rules: {{http: [{', '.join(f'{{path: /a-path-that-is-long/{n}}}' for n in range(20))}]}}"
    [rule] = decode(IN % ("{" + WEB % asked + "}")).rules
    assert len(rule.proxy.summary) <= 120
    assert rule.proxy.summary.endswith(" and 16 more")


def test_who_must_prove_themselves_is_dropped_before_a_proxy_and_before_what_is_allowed():
    plain = decode(IN % "{fromEntities: [all], authentication: {mode: required}}")
    assert plain.rules[0].proxy == Proxy(0, "authentication", "mutual authentication")
    assert plain.rules[0].verdict is Verdict.REDIRECT
    [http] = decode(IN % ("{" + WEB % "rules: {http: [{}]}" + ", authentication: {mode: required}}")).rules
    assert http.proxy.order < Proxy(101, "http").order
    [off] = decode(IN % "{fromEntities: [all], authentication: {mode: disabled}}").rules
    assert off.verdict is Verdict.ALLOW


def test_named_ports():
    [rule] = decode(
        IN % "{toPorts: [{ports: [{port: HTTP, protocol: TCP}, {port: dns}, {port: x, endPort: 9}]}]}"
    ).rules
    names = [(port.protocol, port.name) for port in rule.ports if isinstance(port, NamedPort)]
    assert names == [(6, "http"), *((p, n) for n in ("dns", "x") for p in (6, 17, 132))]


def test_a_deny_with_names_names_them():
    decoded = decode(
        "spec: {endpointSelector: {}, egressDeny: [{toServices: [{k8sService: {serviceName: db}}]},"
        " {toPorts: [{ports: [{port: http, protocol: TCP}]}]}]}"
    )
    service, port = decoded.rules
    assert (service.verdict, service.peers) == (Verdict.DENY, (ServicePeer("", "db"),))
    assert (port.verdict, port.peers, port.ports) == (Verdict.DENY, None, (NamedPort(6, "http"),))
    assert not decoded.notices


def test_what_flows_are_to_say():
    [rule] = decode("spec: {endpointSelector: {}, log: {value: audited}, labels: [{key: a}], ingress: [{}]}").rules
    assert rule.log == "audited"
