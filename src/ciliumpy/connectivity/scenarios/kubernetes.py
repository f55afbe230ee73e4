# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' own NetworkPolicies: by label, namespace, port and block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.connectivity.plan import (
    EGRESS,
    INGRESS,
    OUTSIDE,
    OUTSIDE_OTHER,
    PING,
    SECOND_NODE,
    TCP,
    UDP,
    Cast,
    Check,
    Document,
    Scenario,
    Steps,
    Test,
    allowed,
    denied,
)
from ciliumpy.connectivity.policies import around_but, kubernetes_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ciliumpy.connectivity.policies import Rule

FIRST, SECOND = 8080, 8081


def _pods(app: str) -> Rule:
    return {"podSelector": {"matchLabels": {"app": app}}}


def _from_client(cast: Cast) -> Sequence[Document]:
    rule = {"from": [_pods("client")], "ports": [{"port": FIRST}]}
    return [kubernetes_policy(cast.namespace, "from-client", "echo", ingress=[rule])]


def by_label(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo, TCP)
        + denied(cast.client, cast.echo, TCP, port=SECOND, at=INGRESS)
        + denied(cast.client, cast.echo, UDP, PING, at=INGRESS)
        + denied(cast.other, cast.echo, TCP, at=INGRESS)
        + denied(cast.visitor, cast.echo, TCP, at=INGRESS)
        + allowed(cast.host, cast.echo, TCP)
    )


def by_label_across(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.echo_far, TCP) + denied(cast.other, cast.echo_far, TCP, at=INGRESS))


def _ports(cast: Cast) -> Sequence[Document]:
    """A port by name, and a range of another protocol."""
    rule = {"from": [_pods("client")], "ports": [{"port": "web"}, {"protocol": "UDP", "port": 8000, "endPort": FIRST}]}
    return [kubernetes_policy(cast.namespace, "ports", "echo", ingress=[rule])]


def by_port(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo, TCP, UDP, port=FIRST)
        + denied(cast.client, cast.echo, TCP, UDP, port=SECOND, at=INGRESS)
    )


def by_port_across(cast: Cast) -> Steps:
    yield Check(
        denied(cast.client, cast.echo_far, TCP, port=FIRST, at=INGRESS)
        + allowed(cast.client, cast.echo_far, TCP, port=SECOND)
        + allowed(cast.client, cast.echo_far, UDP, port=FIRST)
    )


def _to_elsewhere(cast: Cast) -> Sequence[Document]:
    space = {"matchLabels": {"kubernetes.io/metadata.name": cast.elsewhere}}
    rule = {"to": [{"namespaceSelector": space, **_pods("client")}]}
    return [kubernetes_policy(cast.namespace, "to-elsewhere", "client", egress=[rule], policyTypes=["Egress"])]


def by_namespace(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.visitor, TCP, UDP, PING)
        + denied(cast.client, cast.echo, TCP, UDP, PING, at=EGRESS)
        + allowed(cast.other, cast.client, TCP)
    )


def by_namespace_across(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client_far, cast.visitor, TCP) + denied(cast.client_far, cast.echo, TCP, UDP, PING, at=EGRESS)
    )


def _to_block(cast: Cast) -> Sequence[Document]:
    blocks = [{"ipBlock": entry} for entry in around_but(cast.outside, cast.outside_other)]
    return [
        kubernetes_policy(cast.namespace, "to-block", "client", egress=[{"to": blocks}], policyTypes=["Egress"]),
        kubernetes_policy(cast.namespace, "from-block", "echo", ingress=[{"from": blocks}]),
    ]


def to_a_block(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.outside, TCP, UDP, PING)
        + denied(cast.client, cast.outside_other, TCP, UDP, PING, at=EGRESS)
    )


def from_a_block(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.outside, cast.echo, TCP, UDP, PING)
        + denied(cast.outside_other, cast.echo, TCP, UDP, PING, at=INGRESS)
    )


def _nothing(cast: Cast) -> Sequence[Document]:
    return [kubernetes_policy(cast.namespace, "nothing", policyTypes=["Ingress", "Egress"])]


def closed(cast: Cast) -> Steps:
    yield Check(
        denied(cast.visitor, cast.echo, TCP, UDP, PING, at=INGRESS)
        + denied(cast.client, cast.visitor, TCP, UDP, PING, at=EGRESS)
        + denied(cast.client, cast.echo, TCP, UDP, PING, at=EGRESS)
        + allowed(cast.host, cast.echo, TCP)
    )


ACROSS = (SECOND_NODE,)
TESTS = (
    Test(
        "echo-ingress-knp",
        "a NetworkPolicy: ingress by label and port",
        (Scenario(by_label), Scenario(by_label_across, ACROSS)),
        _from_client,
    ),
    Test(
        "echo-ingress-ports-knp",
        "a NetworkPolicy: ports by name and range",
        (Scenario(by_port), Scenario(by_port_across, ACROSS)),
        _ports,
    ),
    Test(
        "client-egress-knp",
        "a NetworkPolicy: egress by namespace",
        (Scenario(by_namespace), Scenario(by_namespace_across, ACROSS)),
        _to_elsewhere,
    ),
    Test(
        "to-cidr-external-knp",
        "a NetworkPolicy: blocks of outside addresses, and what is cut out of them",
        (Scenario(to_a_block), Scenario(from_a_block)),
        _to_block,
        needs=(OUTSIDE, OUTSIDE_OTHER),
    ),
    Test("all-deny-knp", "a NetworkPolicy that closes both ways", (Scenario(closed),), _nothing),
)
