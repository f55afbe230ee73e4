# SPDX-License-Identifier: Apache-2.0
"""Ingress policy on the echo pods: by label, namespace and port, and by a deny rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.connectivity.plan import (
    INGRESS,
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
    forbidden,
)
from ciliumpy.connectivity.policies import echo_requests, from_pods, pods, policy, port

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST, SECOND = 8080, 8081


def _from_client(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "from-client", "echo", ingress=[from_pods(pods("client"), **port(FIRST))])]


def by_label(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.echo, TCP) + denied(cast.other, cast.echo, TCP, UDP, PING, at=INGRESS))


def by_label_across(cast: Cast) -> Steps:
    there = allowed(cast.client, cast.echo_far, TCP) + denied(cast.other, cast.echo_far, TCP, UDP, PING, at=INGRESS)
    yield Check(there + allowed(cast.client_far, cast.echo, TCP))


def by_port(cast: Cast) -> Steps:
    yield Check(
        denied(cast.client, cast.echo, TCP, port=SECOND, at=INGRESS)
        + denied(cast.client, cast.echo, UDP, PING, at=INGRESS)
    )


def same_label_elsewhere(cast: Cast) -> Steps:
    yield Check(denied(cast.visitor, cast.echo, TCP, UDP, PING, at=INGRESS))


def _from_namespace(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "from-namespace", "echo", ingress=[from_pods(pods(namespace=cast.elsewhere))])]


def by_namespace(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.visitor, cast.echo, TCP, UDP, PING) + denied(cast.client, cast.echo, TCP, UDP, PING, at=INGRESS)
    )


def by_namespace_across(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.visitor, cast.echo_far, TCP, UDP, PING)
        + denied(cast.client, cast.echo_far, TCP, UDP, PING, at=INGRESS)
    )


def _not_from_other(cast: Cast) -> Sequence[Document]:
    rules = {"ingress": [from_pods({})], "ingressDeny": [from_pods(pods("other"))]}
    return [policy(cast.namespace, "not-from-other", "echo", **rules)]


def deny_rule(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo, TCP, UDP, PING) + forbidden(cast.other, cast.echo, TCP, UDP, PING, at=INGRESS)
    )


def deny_rule_across(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo_far, TCP, UDP, PING)
        + forbidden(cast.other, cast.echo_far, TCP, UDP, PING, at=INGRESS)
    )


def _ranges(cast: Cast) -> Sequence[Document]:
    rules = [
        from_pods(pods("client"), **port(8081, last=8090)),
        from_pods(pods("client"), **port(8000, "UDP", last=FIRST)),
    ]
    return [policy(cast.namespace, "ranges", "echo", ingress=rules)]


def port_range(cast: Cast) -> Steps:
    """TCP just below where a range begins, UDP just above where one ends."""
    yield Check(
        allowed(cast.client, cast.echo, TCP, port=SECOND)
        + denied(cast.client, cast.echo, TCP, port=FIRST, at=INGRESS)
        + allowed(cast.client, cast.echo, UDP, port=FIRST)
        + denied(cast.client, cast.echo, UDP, port=SECOND, at=INGRESS)
    )


def _pings(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "pings", "echo", ingress=[from_pods(pods("client"), **echo_requests())])]


def icmp_only(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo, PING)
        + denied(cast.client, cast.echo, TCP, UDP, at=INGRESS)
        + denied(cast.other, cast.echo, PING, at=INGRESS)
    )


ACROSS = (SECOND_NODE,)
TESTS = (
    Test(
        "echo-ingress",
        "ingress allowed by label and port, everything else denied",
        (
            Scenario(by_label),
            Scenario(by_label_across, ACROSS),
            Scenario(by_port),
            Scenario(same_label_elsewhere),
        ),
        _from_client,
    ),
    Test(
        "echo-ingress-from-namespace",
        "ingress allowed by namespace",
        (Scenario(by_namespace), Scenario(by_namespace_across, ACROSS)),
        _from_namespace,
    ),
    Test(
        "echo-ingress-from-other-deny",
        "a deny rule wins over an allow rule, and is told as such",
        (Scenario(deny_rule), Scenario(deny_rule_across, ACROSS)),
        _not_from_other,
    ),
    Test("echo-ingress-port-range", "ingress allowed by port range and protocol", (Scenario(port_range),), _ranges),
    Test("echo-ingress-icmp", "ingress allowed by ICMP type", (Scenario(icmp_only),), _pings),
)
