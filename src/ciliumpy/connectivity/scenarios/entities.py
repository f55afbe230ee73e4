# SPDX-License-Identifier: Apache-2.0
"""Policy by entity: the world, the own host, other nodes, the whole cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ciliumpy.connectivity.plan import (
    EGRESS,
    INGRESS,
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
from ciliumpy.connectivity.policies import from_entities, policy, to_entities

Policies = Callable[[Cast], Sequence[Document]]


def _to(entity: str) -> Policies:
    def policies(cast: Cast) -> Sequence[Document]:
        return [policy(cast.namespace, f"to-{entity}", "client", egress=[to_entities(entity)])]

    return policies


def _from(entity: str) -> Policies:
    def policies(cast: Cast) -> Sequence[Document]:
        return [policy(cast.namespace, f"from-{entity}", "echo", ingress=[from_entities(entity)])]

    return policies


def to_outside(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.outside, TCP, UDP, PING))


def not_to_outside(cast: Cast) -> Steps:
    yield Check(denied(cast.client, cast.outside, TCP, UDP, PING, at=EGRESS))


def to_own_host(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.host, TCP, UDP, PING))


def not_to_own_host(cast: Cast) -> Steps:
    yield Check(denied(cast.client, cast.host, TCP, UDP, PING, at=EGRESS))


def to_other_host(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.host_far, TCP, UDP, PING))


def not_to_other_host(cast: Cast) -> Steps:
    yield Check(denied(cast.client, cast.host_far, TCP, UDP, PING, at=EGRESS))


def to_pods(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.echo, TCP, UDP, PING))


def to_pods_across(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.echo_far, TCP, UDP, PING))


def not_to_pods(cast: Cast) -> Steps:
    yield Check(denied(cast.client, cast.echo, TCP, UDP, PING, at=EGRESS))


def from_outside(cast: Cast) -> Steps:
    yield Check(allowed(cast.outside, cast.echo, TCP, UDP, PING))


def not_from_outside(cast: Cast) -> Steps:
    yield Check(denied(cast.outside, cast.echo, TCP, UDP, PING, at=INGRESS))


def not_from_pods(cast: Cast) -> Steps:
    yield Check(denied(cast.client, cast.echo, TCP, UDP, PING, at=INGRESS))


def not_from_pods_across(cast: Cast) -> Steps:
    yield Check(denied(cast.client, cast.echo_far, TCP, UDP, PING, at=INGRESS))


def from_pods(cast: Cast) -> Steps:
    yield Check(allowed(cast.visitor, cast.echo, TCP, UDP, PING))


def from_pods_across(cast: Cast) -> Steps:
    yield Check(allowed(cast.visitor, cast.echo_far, TCP, UDP, PING))


def _not_from_host(cast: Cast) -> Sequence[Document]:
    rules = {"ingress": [from_entities("all")], "ingressDeny": [from_entities("host")]}
    return [policy(cast.namespace, "not-from-host", "echo", **rules)]


def not_from_own_host(cast: Cast) -> Steps:
    """The own host may always come in, but where a rule denies it by name."""
    yield Check(forbidden(cast.host, cast.echo, TCP, UDP, PING, at=INGRESS) + allowed(cast.client, cast.echo, TCP))


def from_other_host(cast: Cast) -> Steps:
    yield Check(allowed(cast.host, cast.echo_far, TCP, UDP, PING))


def not_from_other_host(cast: Cast) -> Steps:
    yield Check(denied(cast.host, cast.echo_far, TCP, UDP, PING, at=INGRESS))


ACROSS, FROM_OUTSIDE = (SECOND_NODE,), (OUTSIDE,)
TESTS = (
    Test(
        "to-entities-world",
        "egress to what is outside of the cluster, and only there",
        (
            Scenario(to_outside, FROM_OUTSIDE),
            Scenario(not_to_own_host),
            Scenario(not_to_other_host, ACROSS),
            Scenario(not_to_pods),
        ),
        _to("world"),
    ),
    Test(
        "host-entity-egress",
        "egress to the own host, and only there",
        (
            Scenario(to_own_host),
            Scenario(not_to_other_host, ACROSS),
            Scenario(not_to_outside, FROM_OUTSIDE),
            Scenario(not_to_pods),
        ),
        _to("host"),
    ),
    Test(
        "remote-node-entity-egress",
        "egress to other nodes, and only there",
        (Scenario(to_other_host), Scenario(not_to_own_host), Scenario(not_to_pods)),
        _to("remote-node"),
        needs=ACROSS,
    ),
    Test(
        "cluster-entity",
        "egress to everything in the cluster, and not beyond",
        (
            Scenario(to_pods),
            Scenario(to_pods_across, ACROSS),
            Scenario(to_own_host),
            Scenario(to_other_host, ACROSS),
            Scenario(not_to_outside, FROM_OUTSIDE),
        ),
        _to("cluster"),
    ),
    Test(
        "echo-ingress-from-outside",
        "ingress from outside of the cluster, and only from there",
        (
            Scenario(from_outside, FROM_OUTSIDE),
            Scenario(not_from_pods),
            Scenario(not_from_pods_across, ACROSS),
            Scenario(not_from_other_host, ACROSS),
        ),
        _from("world"),
    ),
    Test(
        "host-entity-ingress-deny",
        "a deny rule holds for the own host too",
        (Scenario(not_from_own_host), Scenario(from_other_host, ACROSS)),
        _not_from_host,
    ),
    Test(
        "remote-node-entity-ingress",
        "ingress from other nodes, and only from there",
        (Scenario(from_other_host), Scenario(not_from_pods_across), Scenario(not_from_outside, FROM_OUTSIDE)),
        _from("remote-node"),
        needs=ACROSS,
    ),
    Test(
        "cluster-entity-ingress",
        "ingress from everything in the cluster, and not from beyond",
        (
            Scenario(from_pods),
            Scenario(from_pods_across, ACROSS),
            Scenario(from_other_host, ACROSS),
            Scenario(not_from_outside, FROM_OUTSIDE),
        ),
        _from("cluster"),
    ),
)
