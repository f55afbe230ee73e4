# SPDX-License-Identifier: Apache-2.0
"""Egress policy on the clients: by label, namespace and port, and by a deny rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.connectivity.plan import (
    EGRESS,
    OUTSIDE,
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
from ciliumpy.connectivity.policies import pods, policy, port, to_pods

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST, SECOND = 8080, 8081


def _to_echo(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "to-echo", "client", egress=[to_pods(pods("echo"), **port(FIRST))])]


def by_label(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo, TCP)
        + denied(cast.client, cast.other, TCP, UDP, PING, at=EGRESS)
        + denied(cast.client, cast.visitor, TCP, at=EGRESS)
        + allowed(cast.other, cast.client, TCP, UDP, PING)
    )


def by_label_across(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo_far, TCP)
        + allowed(cast.client_far, cast.echo, TCP)
        + denied(cast.client_far, cast.other, TCP, UDP, PING, at=EGRESS)
    )


def by_port(cast: Cast) -> Steps:
    yield Check(
        denied(cast.client, cast.echo, TCP, port=SECOND, at=EGRESS)
        + denied(cast.client, cast.echo, UDP, PING, at=EGRESS)
    )


def to_host(cast: Cast) -> Steps:
    yield Check(denied(cast.client, cast.host, TCP, UDP, PING, at=EGRESS))


def to_outside(cast: Cast) -> Steps:
    yield Check(denied(cast.client, cast.outside, TCP, UDP, PING, at=EGRESS))


def _to_namespace(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "to-namespace", "client", egress=[to_pods(pods(namespace=cast.elsewhere))])]


def by_namespace(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.visitor, TCP, UDP, PING) + denied(cast.client, cast.echo, TCP, UDP, PING, at=EGRESS)
    )


def by_namespace_across(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client_far, cast.visitor, TCP, UDP, PING)
        + denied(cast.client_far, cast.echo, TCP, UDP, PING, at=EGRESS)
    )


def _not_to_echo(cast: Cast) -> Sequence[Document]:
    rules = {"egress": [to_pods({})], "egressDeny": [to_pods(pods("echo"))]}
    return [policy(cast.namespace, "not-to-echo", "client", **rules)]


def deny_rule(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.other, TCP, UDP, PING) + forbidden(cast.client, cast.echo, TCP, UDP, PING, at=EGRESS)
    )


def deny_rule_across(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client_far, cast.other, TCP, UDP, PING)
        + forbidden(cast.client_far, cast.echo, TCP, UDP, PING, at=EGRESS)
    )


ACROSS = (SECOND_NODE,)
TESTS = (
    Test(
        "client-egress",
        "egress allowed by label and port, everything else denied",
        (
            Scenario(by_label),
            Scenario(by_label_across, ACROSS),
            Scenario(by_port),
            Scenario(to_host),
            Scenario(to_outside, (OUTSIDE,)),
        ),
        _to_echo,
    ),
    Test(
        "client-egress-to-namespace",
        "egress allowed by namespace",
        (Scenario(by_namespace), Scenario(by_namespace_across, ACROSS)),
        _to_namespace,
    ),
    Test(
        "client-egress-to-echo-deny",
        "a deny rule wins over an allow rule, and is told as such",
        (Scenario(deny_rule), Scenario(deny_rule_across, ACROSS)),
        _not_to_echo,
    ),
)
