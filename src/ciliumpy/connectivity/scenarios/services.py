# SPDX-License-Identifier: Apache-2.0
"""Services as peers: whom they select, or who is behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.connectivity.plan import (
    EGRESS,
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
)
from ciliumpy.connectivity.policies import policy, service, slices

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "peers"


def _to_service(cast: Cast) -> Document:
    named = {"k8sService": {"serviceName": NAME, "namespace": cast.namespace}}
    return policy(cast.namespace, "to-service", "client", egress=[{"toServices": [named]}])


def _selecting(cast: Cast) -> Sequence[Document]:
    return [service(cast.namespace, NAME, "echo"), _to_service(cast)]


def to_whom_it_selects(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo, TCP, UDP, PING) + denied(cast.client, cast.other, TCP, UDP, PING, at=EGRESS)
    )


def to_whom_it_selects_across(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo_far, TCP)
        + allowed(cast.client_far, cast.echo, TCP)
        + denied(cast.client_far, cast.other, TCP, at=EGRESS)
    )


def it_selects_another(cast: Cast) -> Steps:
    yield Apply([service(cast.namespace, NAME, "other")])
    yield Check(
        denied(cast.client, cast.echo, TCP, UDP, PING, at=EGRESS) + allowed(cast.client, cast.other, TCP, UDP, PING)
    )


def _of_backends(cast: Cast) -> Sequence[Document]:
    return [service(cast.namespace, NAME), *slices(cast.namespace, NAME, cast.outside), _to_service(cast)]


def to_its_backends(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.outside, TCP, UDP, PING)
        + denied(cast.client, cast.outside_other, TCP, UDP, PING, at=EGRESS)
        + denied(cast.client, cast.echo, TCP, at=EGRESS)
    )


def it_has_others(cast: Cast) -> Steps:
    yield Apply(slices(cast.namespace, NAME, cast.outside_other))
    yield Check(
        denied(cast.client, cast.outside, TCP, UDP, PING, at=EGRESS)
        + allowed(cast.client, cast.outside_other, TCP, UDP, PING)
    )


TESTS = (
    Test(
        "client-egress-to-service",
        "egress to whom a service selects, as it is now",
        (
            Scenario(to_whom_it_selects),
            Scenario(to_whom_it_selects_across, (SECOND_NODE,)),
            Scenario(it_selects_another),
        ),
        _selecting,
    ),
    Test(
        "client-egress-to-service-of-backends",
        "egress to the backends of a service without a selector",
        (Scenario(to_its_backends), Scenario(it_has_others)),
        _of_backends,
        needs=(OUTSIDE, OUTSIDE_OTHER),
    ),
)
