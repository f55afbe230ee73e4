# SPDX-License-Identifier: Apache-2.0
"""The last one: nothing was dropped in all the tests before but what was to be."""

from __future__ import annotations

from ciliumpy.connectivity.plan import Cast, Quiet, Scenario, Steps, Test


def all_flows(_: Cast) -> Steps:
    yield Quiet()


TEST = Test(
    "no-unexpected-packet-drops",
    "nothing was dropped but what was to be",
    (Scenario(all_flows),),
    order=99,
)
