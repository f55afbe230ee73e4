# SPDX-License-Identifier: Apache-2.0
"""The verdict straight from the rules, one by one: slow, short, and what everything faster is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.model.ports import PortRange
from ciliumpy.model.selectors import Selector
from ciliumpy.model.verdicts import RANK, Direction, Enforcement, Verdict
from ciliumpy.policy.compile import DEFAULTS, Subject, mode, open_to_host
from ciliumpy.policy.resolve import PORT, backing, port_label, services_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ciliumpy.model.labels import Label
    from ciliumpy.model.options import PolicyOptions
    from ciliumpy.model.rule import Rule
    from ciliumpy.policy.prepared import Named
    from ciliumpy.policy.resolve import Service


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
    options: PolicyOptions = DEFAULTS,
    services: Collection[Service] = (),
) -> Judgement:
    """Judge a packet at the subject: of all rules, those that select it in this direction decide.

    The labels of both ends have those of source `port`, for the ports that they call by name.
    """
    host, unknown = (("reserved", name, "") in subject for name in ("host", "init"))
    who = Subject(host, unknown)
    enforcement = mode(who, options)
    own = [
        n for n in rules if n.rule.direction is direction and n.rule.node is host and n.rule.subject.matches(subject)
    ]
    if enforcement is Enforcement.NEVER or not (own or enforcement is Enforcement.ALWAYS):
        return Judgement("allowed", "open")
    own.sort(key=lambda n: (n.rule.tier, n.rule.priority, RANK[n.rule.verdict], n.rule.proxy_order))
    passed = -1
    serving = subject if direction is Direction.INGRESS else peer
    for named in own:
        rule = named.rule
        if rule.tier == passed or not meets(rule, peer, protocol, port, serving, services):
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
    from_host = own and open_to_host(direction, options, who) and any(x[:2] == ("reserved", "host") for x in peer)
    return Judgement("denied" if closed and not from_host else "allowed", "default")


def meets(
    rule: Rule,
    peer: tuple[Label, ...],
    protocol: int,
    port: int,
    serving: tuple[Label, ...] = (),
    services: Collection[Service] = (),
) -> bool:
    """Whether the rule is about this peer and port; `serving` are the labels of the end that receives."""
    numbered = {str(label) for label in serving if label.source == PORT}
    for covered in rule.ports or ():
        if isinstance(covered, PortRange):
            found = covered.covers(protocol, port)
        else:
            found = covered.protocol == protocol and port_label(protocol, covered.name, port) in numbered
        if found:
            break
    else:
        if rule.ports is not None:
            return False
    if rule.peers is None:
        return True
    return any(
        one.matches(peer)
        if isinstance(one, Selector)
        else any(backing(service).matches(peer) for service in services_of(one, services))
        for one in rule.peers
    )
