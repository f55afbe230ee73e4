# SPDX-License-Identifier: Apache-2.0
"""Policy by groups of prefixes, by name and by label, and groups that change."""

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
    Apply,
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
from ciliumpy.connectivity.policies import cidr_group, policy, single, to_entities

if TYPE_CHECKING:
    from collections.abc import Sequence


def _group(cast: Cast) -> Document:
    return cidr_group(cast.namespace, "one", *single(cast.outside))


def _by_name(cast: Cast) -> dict[str, str]:
    return {"cidrGroupRef": _group(cast)["metadata"]["name"]}


def _from_group(cast: Cast) -> Sequence[Document]:
    return [_group(cast), policy(cast.namespace, "from-group", "echo", ingress=[{"fromCIDRSet": [_by_name(cast)]}])]


def from_the_group(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.outside, cast.echo, TCP, UDP, PING)
        + denied(cast.outside_other, cast.echo, TCP, UDP, PING, at=INGRESS)
    )


def from_the_group_to_another_node(cast: Cast) -> Steps:
    yield Check(allowed(cast.outside, cast.echo_far, TCP) + denied(cast.outside_other, cast.echo_far, TCP, at=INGRESS))


def _not_to_group(cast: Cast) -> Sequence[Document]:
    rules = {"egress": [to_entities("all")], "egressDeny": [{"toCIDRSet": [_by_name(cast)]}]}
    return [_group(cast), policy(cast.namespace, "not-to-group", "client", **rules)]


def _not_to_label(cast: Cast) -> Sequence[Document]:
    groups = {"cidrGroupSelector": {"matchLabels": {"run": cast.namespace}}}
    rules = {"egress": [to_entities("all")], "egressDeny": [{"toCIDRSet": [groups]}]}
    return [_group(cast), policy(cast.namespace, "not-to-label", "client", **rules)]


def not_to_the_group(cast: Cast) -> Steps:
    yield Check(
        forbidden(cast.client, cast.outside, TCP, UDP, PING, at=EGRESS)
        + allowed(cast.client, cast.outside_other, TCP, UDP, PING)
    )


def it_changes(cast: Cast) -> Steps:
    yield Apply([cidr_group(cast.namespace, "one", *single(cast.outside_other))])
    yield Check(
        denied(cast.outside, cast.echo, TCP, UDP, PING, at=INGRESS)
        + allowed(cast.outside_other, cast.echo, TCP, UDP, PING)
    )
    yield Apply([cidr_group(cast.namespace, "one", *single(cast.outside_other), *single(cast.outside))])
    yield Check(allowed(cast.outside, cast.echo, TCP) + allowed(cast.outside_other, cast.echo, TCP))


NEEDS, ACROSS = (OUTSIDE, OUTSIDE_OTHER), (SECOND_NODE,)
TESTS = (
    Test(
        "echo-ingress-from-cidrgroup",
        "ingress from the prefixes of a group, as they are now",
        (Scenario(from_the_group), Scenario(from_the_group_to_another_node, ACROSS), Scenario(it_changes)),
        _from_group,
        needs=NEEDS,
    ),
    Test(
        "client-egress-to-cidrgroup-deny",
        "a deny rule for the prefixes of a group, by its name",
        (Scenario(not_to_the_group),),
        _not_to_group,
        needs=NEEDS,
    ),
    Test(
        "client-egress-to-cidrgroup-deny-by-label",
        "a deny rule for the prefixes of a group, by its labels",
        (Scenario(not_to_the_group),),
        _not_to_label,
        needs=NEEDS,
    ),
)
