# SPDX-License-Identifier: Apache-2.0
"""Policies that do not close what they select: `enableDefaultDeny`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.connectivity.plan import (
    EGRESS,
    INGRESS,
    OUTSIDE,
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
from ciliumpy.connectivity.policies import from_pods, pods, policy, to_pods

if TYPE_CHECKING:
    from collections.abc import Sequence


def _open_ingress(cast: Cast) -> Sequence[Document]:
    rules = {
        "ingress": [from_pods(pods("client"))],
        "ingressDeny": [from_pods(pods("other"))],
        "enableDefaultDeny": {"ingress": False},
    }
    return [policy(cast.namespace, "open-ingress", "echo", **rules)]


def who_is_not_named_comes_in(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo, TCP, UDP, PING)
        + allowed(cast.visitor, cast.echo, TCP, UDP, PING)
        + forbidden(cast.other, cast.echo, TCP, UDP, PING, at=INGRESS)
    )


def who_is_outside_comes_in(cast: Cast) -> Steps:
    yield Check(allowed(cast.outside, cast.echo, TCP, UDP, PING))


def beside_one_that_closes(cast: Cast) -> Steps:
    """One policy that closes is enough; what this one allows stays allowed."""
    yield Apply([policy(cast.namespace, "closes", "echo", ingress=[{}])])
    yield Check(
        allowed(cast.client, cast.echo, TCP)
        + denied(cast.visitor, cast.echo, TCP, at=INGRESS)
        + forbidden(cast.other, cast.echo, TCP, at=INGRESS)
    )


def _open_egress(cast: Cast) -> Sequence[Document]:
    rules = {
        "egress": [to_pods(pods("nobody"))],
        "egressDeny": [to_pods(pods("echo"))],
        "enableDefaultDeny": {"egress": False},
    }
    return [policy(cast.namespace, "open-egress", "client", **rules)]


def what_is_not_named_is_reached(cast: Cast) -> Steps:
    yield Check(
        forbidden(cast.client, cast.echo, TCP, UDP, PING, at=EGRESS)
        + allowed(cast.client, cast.other, TCP, UDP, PING)
        + allowed(cast.client, cast.host, TCP)
    )


def what_is_not_named_is_reached_across(cast: Cast) -> Steps:
    yield Check(
        forbidden(cast.client_far, cast.echo, TCP, UDP, PING, at=EGRESS)
        + allowed(cast.client_far, cast.other, TCP, UDP, PING)
    )


TESTS = (
    Test(
        "default-deny-off-ingress",
        "a policy with `enableDefaultDeny: {ingress: false}` denies what it names, and closes nothing",
        (
            Scenario(who_is_not_named_comes_in),
            Scenario(who_is_outside_comes_in, (OUTSIDE,)),
            Scenario(beside_one_that_closes),
        ),
        _open_ingress,
    ),
    Test(
        "default-deny-off-egress",
        "a policy with `enableDefaultDeny: {egress: false}` denies what it names, and closes nothing",
        (Scenario(what_is_not_named_is_reached), Scenario(what_is_not_named_is_reached_across, (SECOND_NODE,))),
        _open_egress,
    ),
)
