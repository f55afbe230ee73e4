# SPDX-License-Identifier: Apache-2.0
"""The rule that every kind of policy object is decoded into."""

from __future__ import annotations

import msgspec

from ciliumpy.model.errors import Path
from ciliumpy.model.ports import PortRange
from ciliumpy.model.selectors import Selector
from ciliumpy.model.verdicts import Direction, Tier, Verdict

LAST_PRIORITY = 255
NO_PROXY = (0, "")


class NamedPort(msgspec.Struct, frozen=True, order=True):
    """A port called by its name; the receiving pod's containers say which number it is. Names ignore case."""

    protocol: int
    name: str  # lower case


class ServicePeer(msgspec.Struct, frozen=True, order=True):
    """The pods behind services, or the backends' addresses where a service has no selector.

    Either `name`, or services whose labels meet `labels`; `namespace` empty is any.
    """

    namespace: str
    name: str = ""
    labels: Selector | None = None

    def __str__(self) -> str:
        which = self.name or f"*,{self.labels}"
        return f"service {self.namespace or '*'}/{which}"


class Proxy(msgspec.Struct, frozen=True, order=True):
    """Who a redirected packet is for. Of two that meet one packet the lower priority decides; 0 stands last."""

    priority: int  # of its kind, or a listener's own: model/cnp_l7.py
    kind: str  # http, l7, tls, dns, listener; authentication: nobody proves who they are, so that nothing passes
    summary: str = ""  # what the rule asks for, for people: GET /public

    @property
    def order(self) -> tuple[int, str]:
        """What sorts redirects by precedence, and tells which of them are one: the first decides."""
        return self.priority or LAST_PRIORITY, self.kind


class Rule(msgspec.Struct, frozen=True):
    """Whom it selects, in which direction, for which peers and ports, and what it says.

    `peers` None is everybody; () is nobody, but the subject is closed all the same. `ports` None is every protocol; ()
    is nothing. A port range is met when its protocol is, and the port lies in it.
    """

    path: str  # in the object: spec.ingress[0]
    subject: Selector
    direction: Direction
    verdict: Verdict
    peers: tuple[Selector | ServicePeer, ...] | None
    ports: tuple[PortRange | NamedPort, ...] | None
    default_deny: bool = True  # closes its direction for the subject
    tier: int = Tier.NORMAL
    priority: float = 0.0
    proxy: Proxy | None = None  # of REDIRECT
    node: bool = False  # the subject is this node, the host endpoint; else an endpoint that is not the host
    log: str = ""  # text that flows carry which the rule decides

    @property
    def proxy_order(self) -> tuple[int, str]:
        return self.proxy.order if self.proxy else NO_PROXY


class Notice(msgspec.Struct, frozen=True):
    """A part of a well-formed object that has not the effect one might expect, and what it does instead."""

    path: Path
    message: str


class DecodedPolicy(msgspec.Struct, frozen=True):
    rules: tuple[Rule, ...]
    notices: tuple[Notice, ...] = ()
