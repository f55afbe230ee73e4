# SPDX-License-Identifier: Apache-2.0
"""Policies that come, change and go: new connections feel it, and so do those that live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.connectivity.plan import (
    EGRESS,
    INGRESS,
    PING,
    SECOND_NODE,
    TCP,
    UDP,
    Apply,
    Cast,
    Check,
    Direction,
    Document,
    Party,
    Remove,
    Scenario,
    Steps,
    Test,
    allowed,
    cut,
    denied,
    kept,
    opened,
)
from ciliumpy.connectivity.policies import from_pods, pods, policy, to_pods

if TYPE_CHECKING:
    from collections.abc import Sequence


def _no_ingress(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "change", "echo", ingress=[from_pods(pods("nobody"))])]


def _no_egress(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "change", "client", egress=[to_pods(pods("nobody"))])]


def _come_and_go(source: Party, target: Party, policies: Sequence[Document], at: Direction) -> Steps:
    yield Check(allowed(source, target, TCP, UDP, PING))
    yield Apply(policies)
    yield Check(denied(source, target, TCP, UDP, PING, at=at))
    yield Remove(policies)
    yield Check(allowed(source, target, TCP, UDP, PING))


def ingress(cast: Cast) -> Steps:
    yield from _come_and_go(cast.client, cast.echo, _no_ingress(cast), INGRESS)


def ingress_across(cast: Cast) -> Steps:
    yield from _come_and_go(cast.client, cast.echo_far, _no_ingress(cast), INGRESS)


def egress(cast: Cast) -> Steps:
    yield from _come_and_go(cast.client, cast.echo, _no_egress(cast), EGRESS)


def egress_across(cast: Cast) -> Steps:
    yield from _come_and_go(cast.client, cast.echo_far, _no_egress(cast), EGRESS)


def other_peer(cast: Cast) -> Steps:
    """The same policy is changed from one peer to another."""
    for one, another in (("client", "other"), ("other", "client")):
        yield Apply([policy(cast.namespace, "change", "echo", ingress=[from_pods(pods(one))])])
        people = {"client": cast.client, "other": cast.other}
        yield Check(
            allowed(people[one], cast.echo, TCP, UDP, PING)
            + denied(people[another], cast.echo, TCP, UDP, PING, at=INGRESS)
        )


def _cut(source: Party, target: Party, policies: Sequence[Document], at: Direction) -> Steps:
    connections = opened(source, target, TCP, UDP)
    yield Check(connections)
    yield Check(kept(connections))
    yield Apply(policies)
    yield Check(cut(connections, at))
    yield Remove(policies)
    yield Check(allowed(source, target, TCP, UDP))


def cut_by_ingress(cast: Cast) -> Steps:
    yield from _cut(cast.client, cast.echo, _no_ingress(cast), INGRESS)


def cut_by_ingress_across(cast: Cast) -> Steps:
    yield from _cut(cast.client, cast.echo_far, _no_ingress(cast), INGRESS)


def cut_by_egress(cast: Cast) -> Steps:
    yield from _cut(cast.client, cast.echo, _no_egress(cast), EGRESS)


def cut_by_egress_across(cast: Cast) -> Steps:
    yield from _cut(cast.client, cast.echo_far, _no_egress(cast), EGRESS)


def cut_from_host(cast: Cast) -> Steps:
    yield from _cut(cast.host, cast.echo_far, _no_ingress(cast), INGRESS)


def untouched(cast: Cast) -> Steps:
    """What a policy allows lives on when it comes, changes and goes."""
    connections = opened(cast.client, cast.echo, TCP, UDP)
    yield Check(connections)
    for app in ("client", "other"):
        chosen = [policy(cast.namespace, "change", "echo", ingress=[from_pods(pods("client")), from_pods(pods(app))])]
        yield Apply(chosen)
        yield Check(kept(connections))
    yield Remove(chosen)
    yield Check(kept(connections))


ACROSS = (SECOND_NODE,)
TESTS = (
    Test(
        "policy-comes-and-goes",
        "a policy works when it is said to, and no longer when it is gone",
        (
            Scenario(ingress),
            Scenario(ingress_across, ACROSS),
            Scenario(egress),
            Scenario(egress_across, ACROSS),
            Scenario(other_peer),
        ),
    ),
    Test(
        "live-connections",
        "a connection is cut by the policy that forbids it, and by no other",
        (
            Scenario(cut_by_ingress),
            Scenario(cut_by_ingress_across, ACROSS),
            Scenario(cut_by_egress),
            Scenario(cut_by_egress_across, ACROSS),
            Scenario(cut_from_host, ACROSS),
            Scenario(untouched),
        ),
    ),
)
