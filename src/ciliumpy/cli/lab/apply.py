# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy lab apply`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ciliumpy.cli.lab.say import say
from ciliumpy.cli.options import Lab

File = Annotated[
    list[str], typer.Option("--file", "-f", metavar="FILE|DIR|-", help="Manifests; `-` is standard input.")
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until all pods run and policies are in force.")]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait at most.")]


def run(file: File, wait: Wait = True, timeout: Timeout = 60.0, lab: Lab = None) -> None:
    """Apply manifests: all of them, or none if one has a fault.

    A lab takes Namespaces, Pods, Deployments, policies of all kinds, and what these name: Services, EndpointSlices and
    CiliumCIDRGroups.
    """
    from ciliumpy.lab import objects, place, spec, status, taken

    where = place.only_lab(lab)
    options = spec.read(where.file).policy_options()
    found = [manifest for source in file for manifest in objects.read(source, options)]
    policies = taken.Policies(where) if wait else None
    done = objects.apply(where, found)
    for manifest, what in done:
        sys.stdout.write(f"{manifest.key} {what}\n")
        sys.stdout.flush()  # or in a file of both streams the notices come first
        for notice in manifest.notices:
            say(f"{manifest.key}: {notice}")
    if policies is not None:
        policies.wait({manifest.key: what for manifest, what in done})
        status.wait_settled(where, timeout)
