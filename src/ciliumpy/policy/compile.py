# SPDX-License-Identifier: Apache-2.0
"""Rules of one identity into its compiled policy.

A class holds every rule that covers its ports, in levels of precedence: tier, then priority, then deny before redirect
before allow before pass. Neighbours that say the same become one level, and what stands behind a level that meets
everybody is left out, because it is never asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.model.identity import Reserved
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.ports import MAX_PORT
from ciliumpy.model.rule import Rule
from ciliumpy.model.selectors import EVERYBODY, Selector, all_of, exists
from ciliumpy.model.verdicts import RANK, Direction, Enforcement, Tier, Verdict
from ciliumpy.policy.compiled import (
    CompiledClass,
    CompiledDirection,
    CompiledLevel,
    CompiledPolicy,
    PortClassRow,
)
from ciliumpy.policy.prepared import Named, Origin, Precedence, Prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ciliumpy.policy.compiled import Bound

HOST = all_of(exists("reserved", Reserved.HOST.label))


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


Memo = dict[tuple[Prepared, ...], CompiledClass]


def compile_policy(rules: Iterable[Named], options: PolicyOptions = DEFAULTS, subject: Subject = POD) -> CompiledPolicy:
    """Compile the rules that select an identity, resolved (`resolve`). Both directions may be mixed."""
    prepared = [Prepared(rule, bound, place) for place, (rule, bound) in enumerate(sorted(rules, key=_name))]
    return compile_prepared(prepared, options, subject)


def _name(named: Named) -> tuple[bool, Bound | None]:
    return named.bound is None, named.bound


def compile_prepared(
    rules: Sequence[Prepared], options: PolicyOptions, subject: Subject, memo: Memo | None = None
) -> CompiledPolicy:
    """Compile rules in the order of their names. `memo` has the classes of the last time and gets those of this."""
    known: Memo = {} if memo is None else memo
    used: Memo = {}
    sides = (
        _direction([rule for rule in rules if rule.direction is side], side, options, subject, known, used)
        for side in Direction
    )
    compiled = CompiledPolicy(*sides)
    known.clear()
    known.update(used)
    return compiled


def _direction(
    rules: list[Prepared], direction: Direction, options: PolicyOptions, subject: Subject, known: Memo, used: Memo
) -> CompiledDirection:
    """Compile the rules of one direction; without any, it is closed only where enforcement is `always`."""
    enforcement = mode(subject, options)
    if enforcement is Enforcement.NEVER or not (rules or enforcement is Enforcement.ALWAYS):
        return CompiledDirection(enforced=False)
    if not any(rule.default_deny for rule in rules) and enforcement is not Enforcement.ALWAYS:
        rules = [*rules, _EVERYBODY]
    elif rules and open_to_host(direction, options, subject):
        rules = [*rules, _HOST]

    def class_of(members: Iterable[int]) -> CompiledClass:
        key = tuple([rules[index] for index in members])
        levels = used.get(key)
        if levels is None:
            levels = known.get(key)
            levels = used[key] = _levels(key) if levels is None else levels
        return levels

    default = class_of(index for index, rule in enumerate(rules) if rule.spans is None)
    return CompiledDirection(enforced=True, default=default, rows=tuple(_rows(rules, default, class_of)))


def open_to_host(direction: Direction, options: PolicyOptions, subject: Subject) -> bool:
    """Whether the host reaches the subject where no rule says anything: a node reaches its pods, not another host."""
    return direction is Direction.INGRESS and not subject.host and options.allow_localhost == "always"


def _allow(peers: tuple[Selector, ...] | None) -> Prepared:
    return Prepared(Rule("", EVERYBODY, Direction.INGRESS, Verdict.ALLOW, peers, None, tier=Tier.DEFAULT), None)


_EVERYBODY, _HOST = _allow(None), _allow((HOST,))


def _rows(
    rules: Sequence[Prepared], default: CompiledClass, class_of: Callable[[Iterable[int]], CompiledClass]
) -> Iterable[PortClassRow]:
    """Cut each protocol at every border of a range, so that a row's rules are the same for all its ports."""
    always = frozenset(i for i, rule in enumerate(rules) if rule.spans is None)
    borders: dict[int, dict[int, list[tuple[int, int]]]] = {}  # protocol, port -> (rule, +1 begins or -1 ended)
    for index, rule in enumerate(rules):
        for protocol, first, last in rule.spans or ():
            steps = borders.setdefault(protocol, {})
            steps.setdefault(first, []).append((index, 1))
            steps.setdefault(last + 1, []).append((index, -1))
    for protocol, steps in sorted(borders.items()):
        pending: PortClassRow | None = None
        for first, last, active in _intervals(steps):
            levels = class_of(sorted(always.union(active)))
            if pending and pending.last + 1 == first and pending.levels == levels:
                pending = PortClassRow(protocol, pending.first, last, levels)
                continue
            if pending and pending.levels != default:
                yield pending
            pending = PortClassRow(protocol, first, last, levels)
        if pending and pending.levels != default:
            yield pending


def _intervals(steps: dict[int, list[tuple[int, int]]]) -> Iterable[tuple[int, int, Iterable[int]]]:
    """First port, last port and the rules in force between, where there are any."""
    depth: dict[int, int] = {}
    ports = sorted(steps)
    for port, following in zip(ports, [*ports[1:], MAX_PORT + 1], strict=True):
        for index, step in steps[port]:
            depth[index] = depth.get(index, 0) + step
            if not depth[index]:
                del depth[index]
        if depth:
            yield port, following - 1, depth


def _levels(rules: Sequence[Prepared]) -> CompiledClass:
    """Order, merge and cut off."""
    groups: dict[Precedence, list[Prepared]] = {}
    for rule in rules:
        if rule.origins:
            groups.setdefault(rule.precedence, []).append(rule)
    levels: list[CompiledLevel] = []
    passed = -1  # the tier whose rest nobody reaches
    for precedence in sorted(groups):
        if precedence[0] == passed:
            continue
        level = _level(precedence, [origin for rule in groups[precedence] for origin in rule.origins])
        if levels and _same(levels[-1], level) and not _passed_over(levels, level.tier):
            level = _level(precedence, [*levels.pop().origins, *level.origins])
        levels.append(level)
        if level.everybody and level.verdict is Verdict.PASS:
            passed = level.tier
        elif level.everybody:
            break
    return tuple(levels)


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


def _level(precedence: Precedence, origins: list[Origin]) -> CompiledLevel:
    tier, _, rank, proxy = precedence
    everybody = any(selector is None for selector, _ in origins)
    if everybody:  # the rules that name fewer are not the ones to be named
        origins = [origin for origin in origins if origin[0] is None]
    kept = tuple(dict.fromkeys(origins))
    selectors = () if everybody else tuple(dict.fromkeys(s for s, _ in kept if s is not None))
    return CompiledLevel(_BY_RANK[rank], tier, everybody, selectors, kept, proxy)


_BY_RANK = {rank: verdict for verdict, rank in RANK.items()}
