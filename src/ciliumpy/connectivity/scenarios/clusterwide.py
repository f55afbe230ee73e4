# SPDX-License-Identifier: Apache-2.0
"""CiliumClusterwideNetworkPolicies: subjects and peers of any namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.connectivity.plan import (
    EGRESS,
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
from ciliumpy.connectivity.policies import clusterwide_policy, from_pods, pods, policy, to_pods

if TYPE_CHECKING:
    from collections.abc import Sequence


def _from_elsewhere(cast: Cast) -> Sequence[Document]:
    subjects = pods(namespace=cast.namespace)
    rule = from_pods(pods(namespace=cast.elsewhere))
    return [clusterwide_policy(cast.namespace, "from-elsewhere", subjects, ingress=[rule])]


def from_the_namespace(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.visitor, cast.echo, TCP, UDP, PING)
        + allowed(cast.visitor, cast.other, TCP)
        + denied(cast.client, cast.echo, TCP, UDP, PING, at=INGRESS)
        + allowed(cast.client, cast.visitor, TCP)
    )


def from_the_namespace_across(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.visitor, cast.echo_far, TCP, UDP, PING)
        + denied(cast.client, cast.echo_far, TCP, UDP, PING, at=INGRESS)
    )


def _clients_to_elsewhere(cast: Cast) -> Sequence[Document]:
    """The clients of both namespaces, each named by a policy of its own."""
    rule = to_pods(pods(namespace=cast.elsewhere))
    return [
        clusterwide_policy(cast.namespace, f"to-elsewhere-{number}", pods("client", space), egress=[rule])
        for number, space in enumerate((cast.namespace, cast.elsewhere))
    ]


def to_the_namespace(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.visitor, TCP, UDP, PING)
        + denied(cast.client, cast.echo, TCP, UDP, PING, at=EGRESS)
        + denied(cast.visitor, cast.echo, TCP, UDP, PING, at=EGRESS)
        + allowed(cast.other, cast.echo, TCP)
    )


def to_the_namespace_across(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client_far, cast.visitor, TCP, UDP, PING)
        + denied(cast.client_far, cast.echo, TCP, UDP, PING, at=EGRESS)
    )


def _deny_over_own(cast: Cast) -> Sequence[Document]:
    return [
        clusterwide_policy(
            cast.namespace,
            "never-other",
            pods("echo", cast.namespace),
            ingressDeny=[from_pods(pods("other", cast.namespace))],
            enableDefaultDeny={"ingress": False},
        ),
        policy(cast.namespace, "own", "echo", ingress=[from_pods({})]),
    ]


def denied_whatever_is_allowed(cast: Cast) -> Steps:
    yield Check(
        forbidden(cast.other, cast.echo, TCP, UDP, PING, at=INGRESS)
        + allowed(cast.client, cast.echo, TCP)
        + denied(cast.visitor, cast.echo, TCP, at=INGRESS)
    )


ACROSS = (SECOND_NODE,)
TESTS = (
    Test(
        "ingress-from-specific-namespace-ccnp",
        "a clusterwide policy on a namespace: ingress from another one",
        (Scenario(from_the_namespace), Scenario(from_the_namespace_across, ACROSS)),
        _from_elsewhere,
    ),
    Test(
        "egress-to-specific-namespace-ccnp",
        "clusterwide policies on pods of two namespaces: egress to one",
        (Scenario(to_the_namespace), Scenario(to_the_namespace_across, ACROSS)),
        _clients_to_elsewhere,
    ),
    Test(
        "echo-ingress-deny-ccnp",
        "a clusterwide deny rule goes before what a namespace allows",
        (Scenario(denied_whatever_is_allowed),),
        _deny_over_own,
    ),
)
