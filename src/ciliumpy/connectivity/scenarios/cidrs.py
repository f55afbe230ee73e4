# SPDX-License-Identifier: Apache-2.0
"""Policy by addresses outside of the cluster: prefixes, what is cut out of them, and who they never mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.connectivity.plan import (
    CIDR_OUTSIDE,
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
    forbidden,
)
from ciliumpy.connectivity.policies import around, around_but, from_cidrs, policy, single, to_cidrs, to_entities

if TYPE_CHECKING:
    from collections.abc import Sequence


def _to_one(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "to-one", "client", egress=[to_cidrs(*single(cast.outside))])]


def to_the_one(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.outside, TCP, UDP, PING)
        + denied(cast.client, cast.outside_other, TCP, UDP, PING, at=EGRESS)
    )


def to_the_one_from_another_node(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client_far, cast.outside, TCP) + denied(cast.client_far, cast.outside_other, TCP, at=EGRESS)
    )


def not_to_pods(cast: Cast) -> Steps:
    yield Check(denied(cast.client, cast.echo, TCP, at=EGRESS))


def _to_all_but_one(cast: Cast) -> Sequence[Document]:
    rule = {"toCIDRSet": around_but(cast.outside, cast.outside_other)}
    return [policy(cast.namespace, "to-all-but-one", "client", egress=[rule])]


def _not_to_prefix(cast: Cast) -> Sequence[Document]:
    deny = {"toCIDRSet": around_but(cast.outside, cast.outside_other)}
    rules = {"egress": [to_entities("all")], "egressDeny": [deny]}
    return [policy(cast.namespace, "not-to-prefix", "client", **rules)]


def to_what_is_cut_out(cast: Cast) -> Steps:
    yield Check(
        forbidden(cast.client, cast.outside, TCP, UDP, PING, at=EGRESS)
        + allowed(cast.client, cast.outside_other, TCP, UDP, PING)
        + allowed(cast.client, cast.echo, TCP)
    )


def _from_all_but_one(cast: Cast) -> Sequence[Document]:
    rule = {"fromCIDRSet": around_but(cast.outside, cast.outside_other)}
    return [policy(cast.namespace, "from-all-but-one", "echo", ingress=[rule])]


def from_the_one(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.outside, cast.echo, TCP, UDP, PING)
        + denied(cast.outside_other, cast.echo, TCP, UDP, PING, at=INGRESS)
        + denied(cast.client, cast.echo, TCP, at=INGRESS)
    )


def from_the_one_to_another_node(cast: Cast) -> Steps:
    yield Check(allowed(cast.outside, cast.echo_far, TCP) + denied(cast.outside_other, cast.echo_far, TCP, at=INGRESS))


def _not_from_one(cast: Cast) -> Sequence[Document]:
    rules = {
        "ingress": [from_cidrs(*around(cast.outside, cast.outside_other))],
        "ingressDeny": [from_cidrs(*single(cast.outside_other))],
    }
    return [policy(cast.namespace, "not-from-one", "echo", **rules)]


def not_from_the_one(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.outside, cast.echo, TCP, UDP, PING)
        + forbidden(cast.outside_other, cast.echo, TCP, UDP, PING, at=INGRESS)
    )


def _everything(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "to-everything", "client", egress=[to_cidrs("0.0.0.0/0", "::/0")])]


def outside_alone(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.outside, TCP, UDP, PING)
        + denied(cast.client, cast.echo, TCP, UDP, PING, at=EGRESS)
        + denied(cast.client, cast.host, TCP, at=EGRESS)
    )


def outside_alone_across(cast: Cast) -> Steps:
    yield Check(denied(cast.client, cast.echo_far, TCP, at=EGRESS) + denied(cast.client, cast.host_far, TCP, at=EGRESS))


NEEDS, ACROSS = (OUTSIDE, OUTSIDE_OTHER), (SECOND_NODE,)
TESTS = (
    Test(
        "to-cidr-external",
        "egress to addresses outside, and only there",
        (Scenario(to_the_one), Scenario(to_the_one_from_another_node, ACROSS), Scenario(not_to_pods)),
        _to_one,
        needs=NEEDS,
    ),
    Test(
        "client-egress-to-cidr-except",
        "egress to a prefix, but not to what is cut out of it",
        (Scenario(to_the_one), Scenario(to_the_one_from_another_node, ACROSS), Scenario(not_to_pods)),
        _to_all_but_one,
        needs=NEEDS,
    ),
    Test(
        "client-egress-to-cidr-deny",
        "a deny rule for a prefix, but not for what is cut out of it",
        (Scenario(to_what_is_cut_out),),
        _not_to_prefix,
        needs=NEEDS,
    ),
    Test(
        "echo-ingress-from-cidr-except",
        "ingress from a prefix, but not from what is cut out of it",
        (Scenario(from_the_one), Scenario(from_the_one_to_another_node, ACROSS)),
        _from_all_but_one,
        needs=NEEDS,
    ),
    Test(
        "echo-ingress-from-cidr-deny",
        "a deny rule for an address in a prefix that is allowed",
        (Scenario(not_from_the_one),),
        _not_from_one,
        needs=NEEDS,
    ),
    Test(
        "to-cidr-everything",
        "the widest prefixes mean what is outside, and no pod or node",
        (Scenario(outside_alone), Scenario(outside_alone_across, ACROSS)),
        _everything,
        needs=(OUTSIDE, CIDR_OUTSIDE),
    ),
)
