# SPDX-License-Identifier: Apache-2.0
"""A pod that sends with another's address is not heard."""

from __future__ import annotations

from ciliumpy.connectivity.plan import OUTSIDE, SECOND_NODE, Cast, Check, Scenario, Steps, Test, forged


def with_a_pods_address(cast: Cast) -> Steps:
    yield Check(forged(cast.other, cast.echo, cast.client) + forged(cast.other, cast.echo, cast.visitor))


def with_a_pods_address_across(cast: Cast) -> Steps:
    yield Check(forged(cast.other, cast.echo_far, cast.client) + forged(cast.other, cast.echo_far, cast.client_far))


def with_a_hosts_address(cast: Cast) -> Steps:
    yield Check(forged(cast.other, cast.echo, cast.host))


def with_an_outside_address(cast: Cast) -> Steps:
    yield Check(forged(cast.other, cast.echo, cast.outside))


TEST = Test(
    "source-forging",
    "a pod that sends with another's address is not heard",
    (
        Scenario(with_a_pods_address),
        Scenario(with_a_pods_address_across, (SECOND_NODE,)),
        Scenario(with_a_hosts_address),
        Scenario(with_an_outside_address, (OUTSIDE,)),
    ),
)
