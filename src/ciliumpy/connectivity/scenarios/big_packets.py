# SPDX-License-Identifier: Apache-2.0
"""Full packets and much of them, there and back: MTU, segmentation and check sums on every path."""

from __future__ import annotations

from ciliumpy.connectivity.plan import (
    BIG_PING,
    BULK,
    OUTSIDE,
    SECOND_NODE,
    Cast,
    Check,
    Scenario,
    Steps,
    Test,
    allowed,
)


def pod_to_pod(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.echo, BULK, BIG_PING))


def pod_to_pod_across(cast: Cast) -> Steps:
    there = allowed(cast.client, cast.echo_far, BULK, BIG_PING)
    yield Check(there + allowed(cast.client_far, cast.echo, BULK, BIG_PING))


def pod_to_host(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.host, BULK, BIG_PING))


def pod_to_outside(cast: Cast) -> Steps:
    yield Check(allowed(cast.client, cast.outside, BULK, BIG_PING))


TEST = Test(
    "big-packets",
    "packets as large as the route takes pass whole, 4 MiB come back as they were",
    (
        Scenario(pod_to_pod),
        Scenario(pod_to_pod_across, (SECOND_NODE,)),
        Scenario(pod_to_host),
        Scenario(pod_to_outside, (OUTSIDE,)),
    ),
    order=1,
)
