# SPDX-License-Identifier: Apache-2.0
"""Rules of one identity into its compiled policy.

A class holds every rule that covers its ports, in levels of precedence: tier, then priority, then deny before redirect
before allow before pass. Neighbours that say the same become one level, and what stands behind a level that meets
everybody is left out, because it is never asked.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.model.identity import Reserved
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.ports import MAX_PORT, PortRange
from ciliumpy.model.rule import Rule
from ciliumpy.model.selectors import EVERYBODY, Selector, all_of, exists
from ciliumpy.model.verdicts import RANK, Direction, Enforcement, Tier, Verdict
from ciliumpy.policy.compiled import (
    Bound,
    CompiledClass,
    CompiledDirection,
    CompiledLevel,
    CompiledPolicy,
    PortClassRow,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOST = all_of(exists("reserved", Reserved.HOST.label))


class Named(NamedTuple):
    """A rule and its name; None for what stands without a policy."""

    rule: Rule
    bound: Bound | None


class Subject(NamedTuple):
    """What decides about a subject besides the rules that select it."""

    host: bool = False  # this node: closed only with a host firewall, and never open to itself for being the host
    unknown: bool = False  # reserved:init, so that no rule can select it: closed


POD = Subject()
DEFAULTS = PolicyOptions()


def mode(subject: Subject, options: PolicyOptions) -> Enforcement:
    """When a direction of the subject is closed."""
    if subject.host and not options.host_firewall:
        return Enforcement.NEVER
    if subject.unknown and options.enforcement is Enforcement.DEFAULT:
        return Enforcement.ALWAYS
    return options.enforcement


def compile_policy(rules: Iterable[Named], options: PolicyOptions = DEFAULTS, subject: Subject = POD) -> CompiledPolicy:
    """Compile the rules that select an identity, resolved (`resolve`). Both directions may be mixed."""
    rules = list(rules)
    return CompiledPolicy(
        *(
            compile_direction([n for n in rules if n.rule.direction is side], side, options, subject)
            for side in Direction
        )
    )


def compile_direction(
    rules: Sequence[Named], direction: Direction, options: PolicyOptions = DEFAULTS, subject: Subject = POD
) -> CompiledDirection:
    """Compile the rules of one direction; without any, it is closed only where enforcement is `always`."""
    enforcement = mode(subject, options)
    if enforcement is Enforcement.NEVER or not (rules or enforcement is Enforcement.ALWAYS):
        return CompiledDirection(enforced=False)
    if not any(named.rule.default_deny for named in rules) and enforcement is not Enforcement.ALWAYS:
        rules = [*rules, Named(_allow(direction, None), None)]
    elif rules and open_to_host(direction, options, subject):
        rules = [*rules, Named(_allow(direction, (HOST,)), None)]
    default = _levels([named for named in rules if named.rule.ports is None])
    return CompiledDirection(enforced=True, default=default, rows=tuple(_rows(rules, default)))


def open_to_host(direction: Direction, options: PolicyOptions, subject: Subject) -> bool:
    """Whether the host reaches the subject where no rule says anything: a node reaches its pods, not another host."""
    return direction is Direction.INGRESS and not subject.host and options.allow_localhost == "always"


def _allow(direction: Direction, peers: tuple[Selector, ...] | None) -> Rule:
    return Rule("", EVERYBODY, direction, Verdict.ALLOW, peers, None, tier=Tier.DEFAULT)


def _rows(rules: Sequence[Named], default: CompiledClass) -> Iterable[PortClassRow]:
    """Cut each protocol at every border of a range, so that a row's rules are the same for all its ports."""
    always = frozenset(i for i, named in enumerate(rules) if named.rule.ports is None)
    borders: dict[int, dict[int, list[tuple[int, int]]]] = {}  # protocol, port -> (rule, +1 begins or -1 ended)
    for index, named in enumerate(rules):
        for covered in named.rule.ports or ():
            if not isinstance(covered, PortRange):
                continue
            steps = borders.setdefault(covered.protocol, {})
            steps.setdefault(covered.first, []).append((index, 1))
            steps.setdefault(covered.last + 1, []).append((index, -1))
    known: dict[frozenset[int], CompiledClass] = {}
    for protocol, steps in sorted(borders.items()):
        pending: PortClassRow | None = None
        for first, last, active in _intervals(steps):
            members = always | active
            if members not in known:
                known[members] = _levels([rules[index] for index in sorted(members)])
            levels = known[members]
            if pending and pending.last + 1 == first and pending.levels == levels:
                pending = PortClassRow(protocol, pending.first, last, levels)
                continue
            if pending and pending.levels != default:
                yield pending
            pending = PortClassRow(protocol, first, last, levels)
        if pending and pending.levels != default:
            yield pending


def _intervals(steps: dict[int, list[tuple[int, int]]]) -> Iterable[tuple[int, int, frozenset[int]]]:
    """First port, last port and the rules in force between, where there are any."""
    depth: dict[int, int] = {}
    ports = sorted(steps)
    for port, following in zip(ports, [*ports[1:], MAX_PORT + 1], strict=True):
        for index, step in steps[port]:
            depth[index] = depth.get(index, 0) + step
            if not depth[index]:
                del depth[index]
        if depth:
            yield port, following - 1, frozenset(depth)


def _levels(rules: Sequence[Named]) -> CompiledClass:
    """Order, merge and cut off."""
    levels: list[CompiledLevel] = []
    passed = -1  # the tier whose rest nobody reaches
    for (tier, _, _, proxy), group in groupby(sorted(rules, key=_precedence), key=_precedence):
        level = _level(list(group), tier, proxy)
        if level is None or tier == passed:
            continue
        if levels and _same(levels[-1], level) and not _passed_over(levels, level.tier):
            level = _merge(levels.pop(), level)
        levels.append(level)
        if level.everybody and level.verdict is Verdict.PASS:
            passed = tier
        elif level.everybody:
            break
    return tuple(levels)


def _precedence(named: Named) -> tuple[int, float, int, tuple[int, str]]:
    rule = named.rule
    return rule.tier, rule.priority, RANK[rule.verdict], rule.proxy_order


def _same(one: CompiledLevel, other: CompiledLevel) -> bool:
    """Whether two neighbours can be one level.

    Passes of two tiers lead to different places; what holds for everybody, or without a rule, would hide the rules
    before it from whoever asks which one decided.
    """
    alike = (one.verdict, one.proxy, one.everybody) == (other.verdict, other.proxy, other.everybody)
    return alike and (one.tier == other.tier or (one.verdict is not Verdict.PASS and other.tier != Tier.DEFAULT))


def _passed_over(levels: Sequence[CompiledLevel], tier: int) -> bool:
    """Whether a pass leads to the first level of another tier, which the last one must then not be part of."""
    last = levels[-1].tier
    return last != tier and any(level.verdict is Verdict.PASS and level.tier == last for level in levels)


def _level(rules: list[Named], tier: int, proxy: tuple[int, str]) -> CompiledLevel | None:
    origins: set[tuple[Selector | None, Bound | None]] = set()
    for rule, bound in rules:
        peers = (EVERYBODY,) if rule.peers is None else rule.peers
        selectors = [peer for peer in peers if isinstance(peer, Selector) and peer.alternatives]
        origins.update((None if peer.everybody else peer, bound) for peer in selectors)
    if not origins:
        return None
    return _make(rules[0].rule.verdict, tier, proxy, origins)


def _merge(one: CompiledLevel, other: CompiledLevel) -> CompiledLevel:
    return _make(other.verdict, other.tier, other.proxy, {*one.origins, *other.origins})


def _make(
    verdict: Verdict, tier: int, proxy: tuple[int, str], origins: set[tuple[Selector | None, Bound | None]]
) -> CompiledLevel:
    everybody = any(selector is None for selector, _ in origins)
    # Who meets everybody needs no selectors, and the rules that name fewer are not the ones to be named.
    kept = sorted(
        (origin for origin in origins if origin[0] is None or not everybody),
        key=lambda origin: (origin[0] or EVERYBODY, str(origin[1] or "")),
    )
    selectors = () if everybody else tuple(sorted({s for s, _ in kept if s is not None}))
    return CompiledLevel(verdict, tier, everybody, selectors, tuple(kept), proxy)
