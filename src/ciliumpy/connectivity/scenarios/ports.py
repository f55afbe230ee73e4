# SPDX-License-Identifier: Apache-2.0
"""Policy by port: ranges, names that mean another number on each pod, and deny rules for ports alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.connectivity.plan import (
    EGRESS,
    INGRESS,
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
from ciliumpy.connectivity.policies import from_pods, pods, policy, port, to_pods

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST, SECOND = 8080, 8081  # `web` on echo, and on echo_far and other


def _ranges(cast: Cast) -> Sequence[Document]:
    rules = [to_pods(pods("echo"), **port(8000, last=FIRST)), to_pods(pods("echo"), **port(SECOND, "UDP", last=9000))]
    return [policy(cast.namespace, "to-ranges", "client", egress=rules)]


def to_ranges(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo, TCP, port=FIRST)
        + denied(cast.client, cast.echo, TCP, port=SECOND, at=EGRESS)
        + denied(cast.client, cast.echo, UDP, port=FIRST, at=EGRESS)
        + allowed(cast.client, cast.echo, UDP, port=SECOND)
    )


def _not_in_range(cast: Cast) -> Sequence[Document]:
    rules = {"ingress": [from_pods({}, **port(1, last=65535))], "ingressDeny": [port(SECOND, last=8089)]}
    return [policy(cast.namespace, "not-in-range", "echo", **rules)]


def not_in_the_range(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo, TCP, port=FIRST)
        + forbidden(cast.client, cast.echo, TCP, port=SECOND, at=INGRESS)
        + forbidden(cast.visitor, cast.echo, TCP, port=SECOND, at=INGRESS)
        + forbidden(cast.host, cast.echo, TCP, port=SECOND, at=INGRESS)
        + denied(cast.client, cast.echo, UDP, at=INGRESS)
    )


def _web_in(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "from-client-to-web", "echo", ingress=[from_pods(pods("client"), **port("web"))])]


def in_by_name(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo, TCP, port=FIRST)
        + denied(cast.client, cast.echo, TCP, port=SECOND, at=INGRESS)
        + denied(cast.client, cast.echo, UDP, port=FIRST, at=INGRESS)
        + denied(cast.other, cast.echo, TCP, port=FIRST, at=INGRESS)
    )


def in_by_name_where_it_is_another(cast: Cast) -> Steps:
    yield Check(
        denied(cast.client, cast.echo_far, TCP, port=FIRST, at=INGRESS)
        + allowed(cast.client, cast.echo_far, TCP, port=SECOND)
    )


def _web_out(cast: Cast) -> Sequence[Document]:
    rule = to_pods({}, pods(namespace=cast.elsewhere), **port("web"))
    return [policy(cast.namespace, "to-web", "client", egress=[rule])]


def out_by_name(cast: Cast) -> Steps:
    """Who has no port of that name is not reached."""
    yield Check(
        allowed(cast.client, cast.echo, TCP, port=FIRST)
        + denied(cast.client, cast.other, TCP, port=FIRST, at=EGRESS)
        + allowed(cast.client, cast.other, TCP, port=SECOND)
        + denied(cast.client, cast.visitor, TCP, port=FIRST, at=EGRESS)
        + denied(cast.client, cast.visitor, TCP, port=SECOND, at=EGRESS)
    )


def out_by_name_across(cast: Cast) -> Steps:
    """The echos are one peer, by their labels: it has both numbers."""
    yield Check(
        allowed(cast.client, cast.echo_far, TCP, port=SECOND)
        + denied(cast.client, cast.echo_far, UDP, port=SECOND, at=EGRESS)
        + denied(cast.client_far, cast.other, TCP, port=FIRST, at=EGRESS)
        + allowed(cast.client_far, cast.other, TCP, port=SECOND)
    )


def _not_web(cast: Cast) -> Sequence[Document]:
    rules = {"ingress": [from_pods({})], "ingressDeny": [from_pods(pods("client"), **port("web"))]}
    return [policy(cast.namespace, "not-web", "echo", **rules)]


def not_by_name(cast: Cast) -> Steps:
    yield Check(
        forbidden(cast.client, cast.echo, TCP, port=FIRST, at=INGRESS)
        + allowed(cast.client, cast.echo, TCP, port=SECOND)
        + allowed(cast.other, cast.echo, TCP, port=FIRST)
    )


def not_by_name_where_it_is_another(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo_far, TCP, port=FIRST)
        + forbidden(cast.client, cast.echo_far, TCP, port=SECOND, at=INGRESS)
    )


ACROSS = (SECOND_NODE,)
TESTS = (
    Test("client-egress-port-range", "egress allowed by port range and protocol", (Scenario(to_ranges),), _ranges),
    Test(
        "echo-ingress-port-range-deny",
        "a deny rule for ports denies everybody, in a range that is allowed",
        (Scenario(not_in_the_range),),
        _not_in_range,
    ),
    Test(
        "echo-ingress-named-port",
        "a port's name means what each subject calls so",
        (Scenario(in_by_name), Scenario(in_by_name_where_it_is_another, ACROSS)),
        _web_in,
    ),
    Test(
        "client-egress-named-port",
        "a port's name means what each peer calls so",
        (Scenario(out_by_name), Scenario(out_by_name_across, ACROSS)),
        _web_out,
    ),
    Test(
        "client-ingress-to-echo-named-port-deny",
        "a deny rule for a port by its name",
        (Scenario(not_by_name), Scenario(not_by_name_where_it_is_another, ACROSS)),
        _not_web,
    ),
)
