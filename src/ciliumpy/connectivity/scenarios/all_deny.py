# SPDX-License-Identifier: Apache-2.0
"""Nothing in, nothing out: what remains is the host's own way in, and the answers to what one has asked oneself."""

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
    Cast,
    Check,
    Document,
    Scenario,
    Steps,
    Test,
    allowed,
    denied,
)
from ciliumpy.connectivity.policies import policy

if TYPE_CHECKING:
    from collections.abc import Sequence


def _no_ingress(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "no-ingress", ingress=[{}])]


def from_pods(cast: Cast) -> Steps:
    yield Check(
        denied(cast.client, cast.echo, TCP, UDP, PING, at=INGRESS)
        + denied(cast.visitor, cast.echo, TCP, UDP, PING, at=INGRESS)
    )


def from_pods_across(cast: Cast) -> Steps:
    yield Check(
        denied(cast.client_far, cast.echo, TCP, UDP, PING, at=INGRESS)
        + denied(cast.client, cast.echo_far, TCP, UDP, PING, at=INGRESS)
    )


def from_outside(cast: Cast) -> Steps:
    yield Check(denied(cast.outside, cast.echo, TCP, UDP, PING, at=INGRESS))


def from_own_host(cast: Cast) -> Steps:
    yield Check(allowed(cast.host, cast.echo, TCP, UDP, PING))


def from_other_host(cast: Cast) -> Steps:
    yield Check(denied(cast.host, cast.echo_far, TCP, UDP, PING, at=INGRESS))


def replies(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.visitor, TCP, UDP, PING) + allowed(cast.client, cast.host, TCP, UDP, PING))


def replies_across(cast: Cast) -> Steps:
    yield Check(allowed(cast.client_far, cast.visitor, TCP, UDP, PING))


def replies_from_outside(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.outside, TCP, UDP, PING))


def _no_egress(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "no-egress", egress=[{}])]


def to_pods(cast: Cast) -> Steps:
    yield Check(
        denied(cast.client, cast.echo, TCP, UDP, PING, at=EGRESS)
        + denied(cast.client, cast.visitor, TCP, UDP, PING, at=EGRESS)
    )


def to_pods_across(cast: Cast) -> Steps:
    yield Check(denied(cast.client, cast.echo_far, TCP, UDP, PING, at=EGRESS))


def to_hosts(cast: Cast) -> Steps:
    yield Check(denied(cast.client, cast.host, TCP, UDP, PING, at=EGRESS))


def to_other_host(cast: Cast) -> Steps:
    yield Check(denied(cast.client, cast.host_far, TCP, UDP, PING, at=EGRESS))


def to_outside(cast: Cast) -> Steps:
    yield Check(denied(cast.client, cast.outside, TCP, UDP, PING, at=EGRESS))


def answers(cast: Cast) -> Steps:
    yield Check(allowed(cast.visitor, cast.echo, TCP, UDP, PING) + allowed(cast.host, cast.echo, TCP, UDP, PING))


def answers_across(cast: Cast) -> Steps:
    yield Check(allowed(cast.visitor, cast.echo_far, TCP, UDP, PING))


def answers_to_outside(cast: Cast) -> Steps:
    yield Check(allowed(cast.outside, cast.echo, TCP, UDP, PING))


ACROSS = (SECOND_NODE,)
TESTS = (
    Test(
        "all-ingress-deny",
        "nothing comes in but from the own host, and answers",
        (
            Scenario(from_pods),
            Scenario(from_pods_across, ACROSS),
            Scenario(from_outside, (OUTSIDE,)),
            Scenario(from_own_host),
            Scenario(from_other_host, ACROSS),
            Scenario(replies),
            Scenario(replies_across, ACROSS),
            Scenario(replies_from_outside, (OUTSIDE,)),
        ),
        _no_ingress,
    ),
    Test(
        "all-egress-deny",
        "nothing goes out but answers",
        (
            Scenario(to_pods),
            Scenario(to_pods_across, ACROSS),
            Scenario(to_hosts),
            Scenario(to_other_host, ACROSS),
            Scenario(to_outside, (OUTSIDE,)),
            Scenario(answers),
            Scenario(answers_across, ACROSS),
            Scenario(answers_to_outside, (OUTSIDE,)),
        ),
        _no_egress,
    ),
)
