# SPDX-License-Identifier: Apache-2.0
"""ClusterNetworkPolicies: the tier before namespaces' own policies, the one after, and passing from one to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.connectivity.plan import (
    CLUSTER_NETWORK_POLICY,
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
from ciliumpy.connectivity.policies import from_pods, pods, policy, tiered_pods, tiered_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ciliumpy.connectivity.policies import Rule

FIRST, SECOND = 8080, 8081
ALL_PODS: Rule = {"namespaces": {}}


def _from(action: str, *peers: Rule, **more: object) -> Rule:
    return {"action": action, "from": list(peers), **more}


def _pods(cast: Cast, app: str) -> Rule:
    return {"pods": tiered_pods(app, cast.namespace)}


def _admin(cast: Cast) -> Sequence[Document]:
    """The namespace allows the client, and denies other; the tier above says the opposite."""
    own = {"ingress": [from_pods(pods("client"))], "ingressDeny": [from_pods(pods("other"))]}
    return [
        tiered_policy(
            cast.namespace,
            "admin",
            "echo",
            "Admin",
            ingress=[_from("Deny", _pods(cast, "client")), _from("Accept", _pods(cast, "other"))],
        ),
        policy(cast.namespace, "own", "echo", **own),
    ]


def admin_first(cast: Cast) -> Steps:
    yield Check(
        forbidden(cast.client, cast.echo, TCP, UDP, PING, at=INGRESS)
        + allowed(cast.other, cast.echo, TCP, UDP, PING)
        + denied(cast.visitor, cast.echo, TCP, at=INGRESS)
    )


def admin_first_across(cast: Cast) -> Steps:
    yield Check(
        forbidden(cast.client, cast.echo_far, TCP, UDP, PING, at=INGRESS)
        + allowed(cast.other, cast.echo_far, TCP, UDP, PING)
    )


def _pass(cast: Cast) -> Sequence[Document]:
    """Two policies of the tier: what the first passes on the second does not get to see."""
    only_first = {"tcp": {"destinationPort": {"number": FIRST}}}
    return [
        tiered_policy(
            cast.namespace,
            "passes",
            "echo",
            "Admin",
            priority=10,
            ingress=[_from("Pass", _pods(cast, "client"), protocols=[only_first])],
        ),
        tiered_policy(cast.namespace, "denies", "echo", "Admin", priority=20, ingress=[_from("Deny", ALL_PODS)]),
    ]


def passed_and_decided_by_nobody(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo, TCP, port=FIRST)
        + forbidden(cast.client, cast.echo, TCP, port=SECOND, at=INGRESS)
        + forbidden(cast.client, cast.echo, UDP, PING, at=INGRESS)
        + forbidden(cast.other, cast.echo, TCP, at=INGRESS)
        + allowed(cast.host, cast.echo, TCP)
    )


def _pass_to_own(cast: Cast) -> Sequence[Document]:
    return [*_pass(cast), policy(cast.namespace, "own", "echo", ingress=[from_pods(pods("other"))])]


def passed_and_decided_by_own(cast: Cast) -> Steps:
    """The namespace's policy allows only other, which the tier above denies."""
    yield Check(
        denied(cast.client, cast.echo, TCP, port=FIRST, at=INGRESS)
        + forbidden(cast.client, cast.echo, TCP, port=SECOND, at=INGRESS)
        + forbidden(cast.other, cast.echo, TCP, at=INGRESS)
    )


def _baseline(cast: Cast) -> Sequence[Document]:
    return [
        tiered_policy(
            cast.namespace,
            "baseline",
            "echo",
            "Baseline",
            ingress=[_from("Accept", {"namespaces": _named(cast.elsewhere)}), _from("Deny", ALL_PODS)],
        ),
        policy(cast.namespace, "own", "echo", ingress=[from_pods(pods("client"))]),
    ]


def _named(namespace: str) -> Rule:
    return {"matchLabels": {"kubernetes.io/metadata.name": namespace}}


def baseline_last(cast: Cast) -> Steps:
    """What nobody else speaks of: accepted from the other namespace, denied from the own."""
    yield Check(
        allowed(cast.client, cast.echo, TCP, UDP, PING)
        + allowed(cast.visitor, cast.echo, TCP, UDP, PING)
        + forbidden(cast.other, cast.echo, TCP, UDP, PING, at=INGRESS)
    )


def _admin_egress(cast: Cast) -> Sequence[Document]:
    rules = [{"action": "Deny", "to": [_pods(cast, "echo")]}]
    return [tiered_policy(cast.namespace, "admin-egress", "client", "Admin", egress=rules)]


def out_to_echo(cast: Cast) -> Steps:
    """It closes nothing: what it does not name is as without it."""
    yield Check(
        forbidden(cast.client, cast.echo, TCP, UDP, PING, at=EGRESS) + allowed(cast.client, cast.other, TCP, UDP, PING)
    )


NEEDS, ACROSS = (CLUSTER_NETWORK_POLICY,), (SECOND_NODE,)
TESTS = (
    Test(
        "tier-admin",
        "the Admin tier goes before a namespace's policies, denied or accepted",
        (Scenario(admin_first), Scenario(admin_first_across, ACROSS)),
        _admin,
        needs=NEEDS,
    ),
    Test(
        "tier-admin-pass",
        "what is passed on is not asked of the rest of its tier",
        (Scenario(passed_and_decided_by_nobody),),
        _pass,
        needs=NEEDS,
    ),
    Test(
        "tier-admin-pass-to-own",
        "what is passed on a namespace's policies decide",
        (Scenario(passed_and_decided_by_own),),
        _pass_to_own,
        needs=NEEDS,
    ),
    Test(
        "tier-baseline",
        "the Baseline tier decides what no other does",
        (Scenario(baseline_last),),
        _baseline,
        needs=NEEDS,
    ),
    Test("tier-admin-egress", "the Admin tier on the way out", (Scenario(out_to_echo),), _admin_egress, needs=NEEDS),
)
