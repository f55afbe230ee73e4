# SPDX-License-Identifier: Apache-2.0
"""Policies for the nodes themselves: which pods reach a node, and which it reaches. Between pods nothing changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.connectivity.plan import (
    EGRESS,
    HOST_FIREWALL,
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
    cut,
    denied,
    forbidden,
    kept,
    opened,
)
from ciliumpy.connectivity.policies import (
    from_cidrs,
    from_entities,
    from_pods,
    host_policy,
    pods,
    single,
    to_cidrs,
    to_entities,
    to_pods,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def _clients_only(cast: Cast) -> Sequence[Document]:
    return [host_policy(cast.namespace, "from-clients", ingress=[from_pods(pods("client", cast.namespace))])]


def to_the_own_node(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.host, TCP, UDP, PING)
        + denied(cast.other, cast.host, TCP, UDP, PING, at=INGRESS)
        + allowed(cast.host, cast.other, TCP, UDP, PING)
    )


def to_another_node(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.client, cast.host_far, TCP, UDP, PING)
        + denied(cast.other, cast.host_far, TCP, UDP, PING, at=INGRESS)
        + allowed(cast.host, cast.echo_far, TCP, UDP, PING)
    )


def pods_talk_across_nodes(cast: Cast) -> Steps:
    """The tunnel is not the nodes' own talk."""
    yield Check(allowed(cast.other, cast.echo_far, TCP, UDP, PING) + allowed(cast.echo_far, cast.other, TCP))


def _to_echo(cast: Cast) -> Sequence[Document]:
    return [host_policy(cast.namespace, "to-echo", egress=[to_pods(pods("echo", cast.namespace))])]


def from_the_own_node(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.host, cast.echo, TCP)
        + denied(cast.host, cast.other, TCP, at=EGRESS)
        + allowed(cast.other, cast.host, TCP, UDP, PING)
    )


def from_a_node_to_anothers_pods(cast: Cast) -> Steps:
    yield Check(allowed(cast.host, cast.echo_far, TCP) + denied(cast.host, cast.client_far, TCP, at=EGRESS))


def _all_but_clients(cast: Cast) -> Sequence[Document]:
    rules = {"ingress": [from_entities("all")], "ingressDeny": [from_pods(pods("client", cast.namespace))]}
    return [host_policy(cast.namespace, "all-but-clients", **rules)]


def all_but_the_denied(cast: Cast) -> Steps:
    yield Check(forbidden(cast.client, cast.host, TCP, UDP, PING, at=INGRESS) + allowed(cast.other, cast.host, TCP))


def a_connection_is_cut(cast: Cast) -> Steps:
    connections = opened(cast.client, cast.host, TCP)
    yield Check(connections)
    yield Check(kept(connections))
    yield Apply([host_policy(cast.namespace, "nobody", ingress=[{}])])
    yield Check(cut(connections, INGRESS))


def _one_outside(cast: Cast) -> Sequence[Document]:
    one = single(cast.outside)
    rules = {
        "ingress": [from_cidrs(*one), from_entities("cluster")],
        "egress": [to_cidrs(*one), to_entities("cluster")],
    }
    return [host_policy(cast.namespace, "one-outside", **rules)]


def from_outside(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.outside, cast.host, TCP, UDP, PING)
        + denied(cast.outside_other, cast.host, TCP, UDP, PING, at=INGRESS)
        + allowed(cast.client, cast.host, TCP)
    )


def to_outside(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.host, cast.outside, TCP, UDP, PING)
        + denied(cast.host, cast.outside_other, TCP, UDP, PING, at=EGRESS)
        + allowed(cast.client, cast.outside_other, TCP)
        + allowed(cast.host, cast.echo, TCP)
    )


def to_outside_from_another_node(cast: Cast) -> Steps:
    yield Check(
        allowed(cast.host_far, cast.outside, TCP)
        + denied(cast.host_far, cast.outside_other, TCP, at=EGRESS)
        + denied(cast.outside_other, cast.host_far, TCP, at=INGRESS)
    )


NEEDS, ACROSS = (HOST_FIREWALL,), (SECOND_NODE,)
LAST = 90  # they hold for the whole cluster, and for whoever tries it out beside
TESTS = (
    Test(
        "host-policy-ingress",
        "only some pods reach the nodes; pods and nodes reach pods",
        (
            Scenario(to_the_own_node),
            Scenario(to_another_node, ACROSS),
            Scenario(pods_talk_across_nodes, ACROSS),
        ),
        _clients_only,
        needs=NEEDS,
        order=LAST,
    ),
    Test(
        "host-policy-egress",
        "nodes reach only some pods",
        (Scenario(from_the_own_node), Scenario(from_a_node_to_anothers_pods, ACROSS)),
        _to_echo,
        needs=NEEDS,
        order=LAST,
    ),
    Test(
        "host-policy-ingress-deny",
        "a deny rule of a policy for nodes",
        (Scenario(all_but_the_denied),),
        _all_but_clients,
        needs=NEEDS,
        order=LAST,
    ),
    Test(
        "host-policy-cidr",
        "which addresses outside reach the nodes, and which they reach; pods reach others",
        (Scenario(from_outside), Scenario(to_outside), Scenario(to_outside_from_another_node, ACROSS)),
        _one_outside,
        needs=(*NEEDS, OUTSIDE, OUTSIDE_OTHER),
        order=LAST,
    ),
    Test(
        "host-policy-cut",
        "a connection to a node ends with the permission",
        (Scenario(a_connection_is_cut),),
        needs=NEEDS,
        order=LAST,
    ),
)
