# SPDX-License-Identifier: Apache-2.0
"""The verdict straight from the rules, one by one: slow, short, and what everything faster is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.model.ports import PortRange
from ciliumpy.model.selectors import Selector
from ciliumpy.model.verdicts import RANK, Direction, Enforcement, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ciliumpy.model.labels import Label
    from ciliumpy.model.rule import Rule
    from ciliumpy.policy.compile import Named


class Judgement(NamedTuple):
    verdict: str  # allowed, denied, redirected
    reason: str  # policy: a rule matched; default: none did; open: the direction is not enforced
    named: Named | None = None  # the rule


def judge(
    rules: Iterable[Named],
    direction: Direction,
    subject: tuple[Label, ...],
    peer: tuple[Label, ...],
    protocol: int,
    port: int,
    enforcement: Enforcement = Enforcement.DEFAULT,
) -> Judgement:
    """Judge a packet at the subject: of all rules, those that select it in this direction decide."""
    own = [n for n in rules if n.rule.direction is direction and n.rule.subject.matches(subject)]
    if enforcement is Enforcement.NEVER or not (own or enforcement is Enforcement.ALWAYS):
        return Judgement("allowed", "open")
    own.sort(key=lambda n: (n.rule.tier, n.rule.priority, RANK[n.rule.verdict], n.rule.proxy_order))
    passed = -1
    for named in own:
        rule = named.rule
        if rule.tier == passed or not meets(rule, peer, protocol, port):
            continue
        match rule.verdict:
            case Verdict.PASS:
                passed = rule.tier
            case Verdict.DENY:
                return Judgement("denied", "policy", named)
            case Verdict.REDIRECT:
                return Judgement("redirected", "policy", named)
            case Verdict.ALLOW:
                return Judgement("allowed", "policy", named)
    closed = enforcement is Enforcement.ALWAYS or any(n.rule.default_deny for n in own)
    from_host = direction is Direction.INGRESS and own and any(x[:2] == ("reserved", "host") for x in peer)
    return Judgement("denied" if closed and not from_host else "allowed", "default")


def meets(rule: Rule, peer: tuple[Label, ...], protocol: int, port: int) -> bool:
    """Whether the rule is about this peer and port."""
    if rule.ports is not None and not any(
        isinstance(covered, PortRange) and covered.covers(protocol, port) for covered in rule.ports
    ):
        return False
    return rule.peers is None or any(isinstance(one, Selector) and one.matches(peer) for one in rule.peers)
