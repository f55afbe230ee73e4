# SPDX-License-Identifier: Apache-2.0
"""Audit mode: what a pod's policy denies passes and is told of, until the mode ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.connectivity.plan import (
    EGRESS,
    INGRESS,
    PING,
    SECOND_NODE,
    TCP,
    UDP,
    Action,
    Audit,
    Cast,
    Check,
    Document,
    Party,
    Scenario,
    Steps,
    Test,
    allowed,
    audited,
    cut,
    denied,
    forbidden,
    opened,
)
from ciliumpy.connectivity.policies import from_pods, pods, policy, to_pods

if TYPE_CHECKING:
    from collections.abc import Sequence


def _ingress(cast: Cast) -> Sequence[Document]:
    rules = {"ingress": [from_pods(pods("client"))], "ingressDeny": [from_pods(pods("other"))]}
    return [policy(cast.namespace, "audited", "echo", **rules)]


def ingress(cast: Cast) -> Steps:
    """What a rule denies is audited as what none allows; what is allowed is not."""
    yield Audit(cast.echo, on=True)
    yield Check(
        allowed(cast.client, cast.echo, TCP, UDP, PING)
        + audited(cast.other, cast.echo, TCP, UDP, PING, at=INGRESS)
        + audited(cast.visitor, cast.echo, TCP, UDP, PING, at=INGRESS)
    )
    yield Audit(cast.echo, on=False)
    yield Check(
        allowed(cast.client, cast.echo, TCP)
        + forbidden(cast.other, cast.echo, TCP, UDP, PING, at=INGRESS)
        + denied(cast.visitor, cast.echo, TCP, UDP, PING, at=INGRESS)
    )


def a_connection_ends_with_it(cast: Cast) -> Steps:
    yield Audit(cast.echo, on=True)
    connections = _audited(cast.visitor, cast.echo)
    yield Check(connections)
    yield Audit(cast.echo, on=False)
    yield Check(cut(connections, INGRESS))


def _audited(source: Party, target: Party) -> list[Action]:
    return [
        action._replace(expected=action.expected._replace(audited=True)) for action in opened(source, target, TCP, UDP)
    ]


def only_that_pod(cast: Cast) -> Steps:
    yield Audit(cast.echo, on=True)
    yield Check(
        audited(cast.visitor, cast.echo, TCP, at=INGRESS) + denied(cast.visitor, cast.echo_far, TCP, at=INGRESS)
    )


def _egress(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "audited", "client", egress=[to_pods(pods("echo"))])]


def egress(cast: Cast) -> Steps:
    yield Audit(cast.client, on=True)
    yield Check(
        allowed(cast.client, cast.echo, TCP, UDP, PING) + audited(cast.client, cast.other, TCP, UDP, PING, at=EGRESS)
    )
    yield Audit(cast.client, on=False)
    yield Check(denied(cast.client, cast.other, TCP, UDP, PING, at=EGRESS))


TESTS = (
    Test(
        "policy-audit-mode-ingress",
        "what an audited pod's policy denies comes in, and is told of",
        (Scenario(ingress), Scenario(a_connection_ends_with_it), Scenario(only_that_pod, (SECOND_NODE,))),
        _ingress,
    ),
    Test(
        "policy-audit-mode-egress",
        "what an audited pod's policy denies goes out, and is told of",
        (Scenario(egress),),
        _egress,
    ),
)
