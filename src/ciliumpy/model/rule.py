# SPDX-License-Identifier: Apache-2.0
"""The rule that every kind of policy object is decoded into."""

from __future__ import annotations

import msgspec

from ciliumpy.model.errors import Path
from ciliumpy.model.ports import PortRange
from ciliumpy.model.selectors import Selector
from ciliumpy.model.verdicts import Direction, Tier, Verdict


class Rule(msgspec.Struct, frozen=True):
    """Whom it selects, in which direction, for which peers and ports, and what it says.

    `peers` None is everybody; () is nobody, but the subject is closed all the same. `ports` None is every protocol; ()
    is nothing. A port range is met when its protocol is, and the port lies in it.
    """

    path: str  # in the object: spec.ingress[0]
    subject: Selector
    direction: Direction
    verdict: Verdict
    peers: tuple[Selector, ...] | None
    ports: tuple[PortRange, ...] | None
    default_deny: bool = True  # closes its direction for the subject
    tier: int = Tier.NORMAL
    priority: float = 0.0
    proxy_port: int = 0  # of REDIRECT


class Notice(msgspec.Struct, frozen=True):
    """A part of a well-formed object that has not the effect one might expect, and what it does instead."""

    path: Path
    message: str


class DecodedPolicy(msgspec.Struct, frozen=True):
    rules: tuple[Rule, ...]
    notices: tuple[Notice, ...] = ()
