# SPDX-License-Identifier: Apache-2.0
"""Rules for a proxy: what they are about is dropped while none serves, and the flow says what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.connectivity.plan import (
    EGRESS,
    INGRESS,
    L7_POLICY,
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
    for_a_proxy,
)
from ciliumpy.connectivity.policies import from_pods, pods, policy, to_pods

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST, SECOND = 8080, 8081
GET = "wants http GET /public"
NAME = "wants dns example.com"


def _port(protocol: str, **rules: Any) -> dict[str, Any]:
    return {"toPorts": [{"ports": [{"port": str(FIRST), "protocol": protocol}], "rules": rules}]}


def _http(cast: Cast) -> Sequence[Document]:
    """That the client may come in on all ports does not switch the rule for the one off."""
    http = _port("TCP", http=[{"method": "GET", "path": "/public"}])
    rules = [from_pods(pods("client"), **http), from_pods(pods("client"))]
    return [policy(cast.namespace, "http", "echo", ingress=rules)]


def http(cast: Cast) -> Steps:
    yield Check(
        for_a_proxy(cast.client, cast.echo, TCP, at=INGRESS, wants=GET)
        + allowed(cast.client, cast.echo, TCP, port=SECOND)
        + allowed(cast.client, cast.echo, UDP, PING)
        + denied(cast.other, cast.echo, TCP, at=INGRESS)
    )


def http_across(cast: Cast) -> Steps:
    yield Check(for_a_proxy(cast.client, cast.echo_far, TCP, at=INGRESS, wants=GET))


def _http_out(cast: Cast) -> Sequence[Document]:
    http = _port("TCP", http=[{"method": "GET", "path": "/public"}])
    return [policy(cast.namespace, "http-out", "client", egress=[to_pods(pods("echo"), **http)])]


def http_out(cast: Cast) -> Steps:
    yield Check(
        for_a_proxy(cast.client, cast.echo, TCP, at=EGRESS, wants=GET)
        + denied(cast.client, cast.echo, TCP, port=SECOND, at=EGRESS)
        + denied(cast.client, cast.other, TCP, at=EGRESS)
    )


def _names(cast: Cast) -> Sequence[Document]:
    dns = _port("UDP", dns=[{"matchName": "example.com"}])
    return [policy(cast.namespace, "names", "client", egress=[to_pods(pods("echo"), **dns)])]


def names(cast: Cast) -> Steps:
    yield Check(
        for_a_proxy(cast.client, cast.echo, UDP, at=EGRESS, wants=NAME)
        + denied(cast.client, cast.echo, TCP, PING, at=EGRESS)
    )


NEEDS, ACROSS = (L7_POLICY,), (SECOND_NODE,)
TESTS = (
    Test(
        "echo-ingress-l7",
        "an http rule for what comes in: dropped while there is no proxy",
        (Scenario(http), Scenario(http_across, ACROSS)),
        _http,
        needs=NEEDS,
    ),
    Test(
        "client-egress-l7",
        "an http rule for what goes out: dropped while there is no proxy",
        (Scenario(http_out),),
        _http_out,
        needs=NEEDS,
    ),
    Test(
        "client-egress-dns",
        "a rule for DNS names: dropped while there is no proxy",
        (Scenario(names),),
        _names,
        needs=NEEDS,
    ),
)
