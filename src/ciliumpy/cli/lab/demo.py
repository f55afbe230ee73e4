# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy lab demo`."""

from __future__ import annotations


def run() -> None:
    """Start the demo: two nodes, five pods, a policy, traffic before and after, and what is seen of it.

    It can be run again while its lab is up, and leaves the lab running.
    """
    from ciliumpy.lab.demo import tour

    tour.tour()
