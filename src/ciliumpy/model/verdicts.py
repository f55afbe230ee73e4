# SPDX-License-Identifier: Apache-2.0
"""Directions, verdicts and tiers of policy. Numbers that the datapath uses too are those of bpf/c/layout.h."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Direction(IntEnum):
    INGRESS = 0
    EGRESS = 1


class Verdict(IntEnum):
    """What a rule says. Within one tier and priority a deny decides before a redirect, an allow and a pass."""

    DENY = 1
    ALLOW = 2
    REDIRECT = 3  # allow, and hand to a proxy
    PASS = 4  # skip the rest of the tier


# Order of verdicts inside one tier and priority.
RANK = {Verdict.DENY: 0, Verdict.REDIRECT: 1, Verdict.ALLOW: 2, Verdict.PASS: 3}


class Tier(IntEnum):
    """Lower decides first; DEFAULT holds what stands when no rule says anything."""

    ADMIN = 100
    NORMAL = 200
    BASELINE = 250
    DEFAULT = 255


class Enforcement(StrEnum):
    """When an endpoint is closed in a direction: when a rule of that direction selects it, always, or never."""

    DEFAULT = "default"
    ALWAYS = "always"
    NEVER = "never"
