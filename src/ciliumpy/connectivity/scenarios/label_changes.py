# SPDX-License-Identifier: Apache-2.0
"""A running pod gets other labels: policies for and about it count from then on."""

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
    Party,
    Relabel,
    Scenario,
    Steps,
    Test,
    allowed,
    cut,
    denied,
    opened,
)
from ciliumpy.connectivity.policies import from_pods, pods, policy, to_pods

if TYPE_CHECKING:
    from collections.abc import Sequence


def _peer(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "from-other", "echo", ingress=[from_pods(pods("other"))])]


def _comes_and_goes(cast: Cast, target: Party) -> Steps:
    yield Check(allowed(cast.other, target, TCP, UDP, PING))
    yield Relabel(cast.other, "another")
    yield Check(denied(cast.other, target, TCP, UDP, PING, at=INGRESS))
    yield Relabel(cast.other, "other")
    yield Check(allowed(cast.other, target, TCP, UDP, PING))


def as_a_peer(cast: Cast) -> Steps:
    yield from _comes_and_goes(cast, cast.echo)


def as_a_peer_across(cast: Cast) -> Steps:
    yield from _comes_and_goes(cast, cast.echo_far)


def a_connection_is_cut(cast: Cast) -> Steps:
    connections = opened(cast.other, cast.echo, TCP, UDP)
    yield Check(connections)
    yield Relabel(cast.other, "client")
    yield Check(cut(connections, INGRESS) + denied(cast.other, cast.echo, PING, at=INGRESS))


def _subject(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "client-to-echo", "client", egress=[to_pods(pods("echo"))])]


def as_a_subject(cast: Cast) -> Steps:
    """It gets another pod's labels, and with them that one's policies."""
    yield Check(allowed(cast.other, cast.visitor, TCP, UDP, PING))
    yield Relabel(cast.other, "client")
    yield Check(
        denied(cast.other, cast.visitor, TCP, UDP, PING, at=EGRESS) + allowed(cast.other, cast.echo, TCP, UDP, PING)
    )
    yield Relabel(cast.other, "other")
    yield Check(allowed(cast.other, cast.visitor, TCP, UDP, PING))


TESTS = (
    Test(
        "label-change-of-peer",
        "a pod with other labels is another peer, here and on other nodes",
        (Scenario(as_a_peer), Scenario(as_a_peer_across, (SECOND_NODE,)), Scenario(a_connection_is_cut)),
        _peer,
    ),
    Test(
        "label-change-of-subject",
        "a pod with other labels has other policies",
        (Scenario(as_a_subject),),
        _subject,
    ),
)
