# SPDX-License-Identifier: Apache-2.0
"""Policy by ICMP messages: out, by a deny rule, and of one family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.connectivity.plan import (
    EGRESS,
    ICMP_POLICY,
    INGRESS,
    PING,
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
from ciliumpy.connectivity.policies import echo_requests, from_pods, pods, policy, to_pods

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ciliumpy.connectivity.policies import Rule


def _pings_out(cast: Cast) -> Sequence[Document]:
    return [policy(cast.namespace, "pings-out", "client", egress=[to_pods(pods("echo"), **echo_requests())])]


def out(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.echo, PING)
        + denied(cast.client, cast.echo, TCP, UDP, at=EGRESS)
        + denied(cast.client, cast.other, PING, at=EGRESS)
    )


def _no_pings(cast: Cast) -> Sequence[Document]:
    rules = {"ingress": [from_pods({})], "ingressDeny": [from_pods(pods("other"), **echo_requests())]}
    return [policy(cast.namespace, "no-pings", "echo", **rules)]


def not_from_other(cast: Cast) -> Steps:
    yield Check(
        forbidden(cast.other, cast.echo, PING, at=INGRESS)
        + allowed(cast.other, cast.echo, TCP, UDP)
        + allowed(cast.client, cast.echo, PING)
    )


def _messages(cast: Cast) -> Sequence[Document]:
    """A ping's request in IPv4, by name; in IPv6 another message only."""
    fields: list[Rule] = [{"type": "EchoRequest"}, {"family": "IPv6", "type": "TimeExceeded"}]
    return [policy(cast.namespace, "messages", "echo", ingress=[from_pods({}, icmps=[{"fields": fields}])])]


def of_one_family(cast: Cast) -> Steps:
    pings = allowed(cast.client, cast.echo, PING), denied(cast.client, cast.echo, PING, at=INGRESS)
    yield Check([a for a in pings[0] if a.family == 4] + [a for a in pings[1] if a.family == 6])


NEEDS = (ICMP_POLICY,)
TESTS = (
    Test("client-egress-icmp", "egress allowed by ICMP type", (Scenario(out),), _pings_out, needs=NEEDS),
    Test(
        "client-ingress-from-other-client-icmp-deny",
        "a deny rule for an ICMP type",
        (Scenario(not_from_other),),
        _no_pings,
        needs=NEEDS,
    ),
    Test(
        "echo-ingress-icmp-by-name",
        "ingress allowed by an ICMP message's name, of one family",
        (Scenario(of_one_family),),
        _messages,
        needs=NEEDS,
    ),
)
