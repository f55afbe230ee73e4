# SPDX-License-Identifier: Apache-2.0
"""A rule as the compiler wants it: what is the same for every subject is worked out once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.model.ports import PortRange
from ciliumpy.model.selectors import Selector
from ciliumpy.model.verdicts import RANK

if TYPE_CHECKING:
    from ciliumpy.model.rule import Rule
    from ciliumpy.policy.compiled import Bound

Precedence = tuple[int, float, int, tuple[int, str]]
Origin = tuple[Selector | None, "Bound | None"]


class Named(NamedTuple):
    """A rule and its name; None for what stands without a policy."""

    rule: Rule
    bound: Bound | None


class Prepared:
    """A resolved rule: selectors and port numbers only. Two are the same only if they are one object."""

    __slots__ = ("bound", "default_deny", "direction", "everybody", "node", "order", "origins", "precedence", "spans")

    def __init__(self, rule: Rule, bound: Bound | None, place: int = 0) -> None:
        self.bound = bound
        self.direction, self.node, self.default_deny = rule.direction, rule.node, rule.default_deny
        self.precedence: Precedence = (rule.tier, rule.priority, RANK[rule.verdict], rule.proxy_order)
        self.order = (bound is None, bound and (bound.kind, bound.namespace, bound.name), place)
        self.spans: tuple[tuple[int, int, int], ...] | None = None  # protocol, first, last
        if rule.ports is not None:
            self.spans = tuple((p.protocol, p.first, p.last) for p in rule.ports if isinstance(p, PortRange))
        peers = () if rule.peers is None else [p for p in rule.peers if isinstance(p, Selector) and p.alternatives]
        self.everybody = rule.peers is None or any(peer.everybody for peer in peers)
        # Who meets everybody needs no selectors.
        self.origins: tuple[Origin, ...] = ((None, bound),) if self.everybody else tuple((p, bound) for p in peers)
