# SPDX-License-Identifier: Apache-2.0
"""Without policies everybody reaches everybody, and every packet is seen."""

from __future__ import annotations

from ciliumpy.connectivity.plan import (
    OUTSIDE,
    PING,
    SECOND_NODE,
    TCP,
    UDP,
    Cast,
    Check,
    Scenario,
    Steps,
    Test,
    allowed,
)


def pod_to_pod(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.echo, TCP, UDP, PING) + allowed(cast.visitor, cast.echo, TCP, UDP, PING))


def pod_to_pod_across(cast: Cast) -> Steps:
    there = allowed(cast.client, cast.echo_far, TCP, UDP, PING)
    yield Check(there + allowed(cast.client_far, cast.echo, TCP, UDP, PING))


def pod_to_host(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.host, TCP, UDP, PING))


def pod_to_other_host(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.host_far, TCP, UDP, PING))


def pod_to_outside(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.outside, TCP, UDP, PING))


def host_to_pod(cast: Cast) -> Steps:
    yield Check(allowed(cast.host, cast.echo, TCP, UDP, PING))


def host_to_pod_across(cast: Cast) -> Steps:
    yield Check(allowed(cast.host, cast.echo_far, TCP, UDP, PING))


def outside_to_pod(cast: Cast) -> Steps:
    yield Check(allowed(cast.outside, cast.echo, TCP, UDP, PING))


TEST = Test(
    "no-policies",
    "without policies everybody reaches everybody",
    (
        Scenario(pod_to_pod),
        Scenario(pod_to_pod_across, (SECOND_NODE,)),
        Scenario(pod_to_host),
        Scenario(pod_to_other_host, (SECOND_NODE,)),
        Scenario(pod_to_outside, (OUTSIDE,)),
        Scenario(host_to_pod),
        Scenario(host_to_pod_across, (SECOND_NODE,)),
        Scenario(outside_to_pod, (OUTSIDE,)),
    ),
    order=0,
)
