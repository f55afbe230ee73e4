# SPDX-License-Identifier: Apache-2.0
"""All policies in force, and the identities whose compiled policy a change concerns."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.model.identity import Reserved
from ciliumpy.model.rule import ServicePeer
from ciliumpy.model.verdicts import Direction
from ciliumpy.policy.compile import DEFAULTS, Memo, Subject, compile_prepared
from ciliumpy.policy.compiled import Bound, CompiledPolicy
from ciliumpy.policy.prepared import Named, Prepared
from ciliumpy.policy.resolve import NO_PORTS, PortName, PortNumbers, Service, names, resolve, services_of
from ciliumpy.policy.selector_cache import SelectorCache

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ciliumpy.model.options import PolicyOptions
    from ciliumpy.model.rule import Rule


HOST, INIT = (f"reserved:{which.label}" for which in (Reserved.HOST, Reserved.INIT))
POD = Subject()


class PolicyKey(NamedTuple):
    kind: str
    namespace: str
    name: str


class _Policy:
    """A policy's rules by the number of their subject's selector, and what they are as the compiler wants them."""

    __slots__ = ("asks_ports", "by_subject", "key", "prepared", "revision", "rules")

    def __init__(self, key: PolicyKey, rules: tuple[Rule, ...]) -> None:
        self.key, self.rules = key, rules
        self.revision = 0  # of the repository when it came as it is
        self.by_subject: dict[int, tuple[int, ...]] = {}  # number of the selector -> places in `rules`
        self.asks_ports = any(_asks_ports(rule) for rule in rules)
        self.prepared: dict[PortNumbers, list[tuple[Prepared, ...]]] = {}  # named ports of the subject -> by place


class Repository:
    """Policies by key, and the subjects: identities that endpoints of this node have.

    `revision` counts changes of policies. Every method that changes something returns the subjects to compile again.
    """

    def __init__(self, options: PolicyOptions = DEFAULTS) -> None:
        self.revision = 1
        self.options = options
        self._policies: dict[PolicyKey, _Policy] = {}
        self._by_subject: dict[int, dict[PolicyKey, _Policy]] = {}  # number of a subject's selector -> policies
        self._subjects = SelectorCache()
        self._special: dict[int, Subject] = {}  # subjects that are no ordinary pod
        self._memos: dict[tuple[int, PortNumbers], Memo] = {}
        self._services: dict[tuple[str, str], Service] = {}
        self._served: dict[PolicyKey, set[ServicePeer]] = {}  # policies that name services
        self._ports: dict[int, PortNumbers] = {}  # identity, local or not -> named ports of its pods
        self._numbers: dict[PortName, Counter[int]] = {}
        self._calling: dict[PortName, set[PolicyKey]] = {}  # policies that name a port of their peers

    def __len__(self) -> int:
        return len(self._policies)

    @property
    def policies(self) -> Iterable[PolicyKey]:
        return self._policies

    # What changes.

    def set_policy(self, key: PolicyKey, rules: Sequence[Rule]) -> set[int]:
        """Add a policy or replace its rules, at once."""
        former = self._policies.get(key)
        if former is not None and former.rules == tuple(rules):
            return set()
        policy = _Policy(key, tuple(rules))
        places: dict[int, list[int]] = {}
        for place, rule in enumerate(policy.rules):
            self._subjects.acquire(rule.subject)
            places.setdefault(self._subjects.number(rule.subject), []).append(place)
        policy.by_subject = {number: tuple(found) for number, found in places.items()}
        affected = self._drop(key)
        self.revision += 1
        self._policies[key] = policy
        policy.revision = self.revision
        for number in policy.by_subject:
            self._by_subject.setdefault(number, {})[key] = policy
            affected.update(self._subjects.column(number))
        for rule in policy.rules:
            if served := {peer for peer in rule.peers or () if isinstance(peer, ServicePeer)}:
                self._served.setdefault(key, set()).update(served)
            if rule.direction is Direction.EGRESS:
                for name in names(rule):
                    self._calling.setdefault(name, set()).add(key)
        return affected

    def remove_policy(self, key: PolicyKey) -> set[int]:
        if key not in self._policies:
            return set()
        self.revision += 1
        return self._drop(key)

    def set_subject(self, identity: int, labels: tuple[str, ...]) -> set[int]:
        """Add a subject or give it other labels."""
        special = Subject(HOST in labels, INIT in labels)
        known = identity in self._subjects and special == self.kind(identity)
        changed = self._subjects.set_identity(identity, labels)
        self._special.pop(identity, None)
        if special != POD:
            self._special[identity] = special
        return {identity} if changed or not known else set()

    def remove_subject(self, identity: int) -> None:
        self._subjects.remove_identity(identity)
        self._special.pop(identity, None)
        for key in [key for key in self._memos if key[0] == identity]:
            del self._memos[key]

    def set_service(self, service: Service) -> set[int]:
        """Add a service or change it."""
        key = (service.namespace, service.name)
        former = self._services.get(key)
        if former == service:
            return set()
        self._services[key] = service
        return self._using([service, *([former] if former else ())])

    def remove_service(self, namespace: str, name: str) -> set[int]:
        former = self._services.pop((namespace, name), None)
        return self._using([former]) if former else set()

    def set_ports(self, identity: int, ports: PortNumbers) -> set[int]:
        """Tell the named ports of an identity's pods, on whatever node; none of one that is gone.

        Those that subjects have themselves are told when they are compiled.
        """
        before = set(self._ports.pop(identity, NO_PORTS))
        if ports:
            self._ports[identity] = ports
        changed: set[PortName] = set()
        for sign, some in ((1, set(ports) - before), (-1, before - set(ports))):
            for protocol, name, number in some:
                numbers = self._numbers.setdefault((protocol, name), Counter())
                numbers[number] += sign
                if numbers[number] == (1 if sign > 0 else 0):
                    changed.add((protocol, name))
                if not numbers[number]:
                    del numbers[number]
        for gone in [name for name in changed if not self._numbers[name]]:
            del self._numbers[gone]
        return self._again({key for called in changed for key in self._calling.get(called, ())})

    # What is asked.

    def selected_by(self, key: PolicyKey) -> set[int]:
        """Subjects that a policy selects."""
        policy = self._policies.get(key)
        found: set[int] = set()
        for number, places in policy.by_subject.items() if policy else ():
            nodes = {policy.rules[place].node for place in places} if policy else set()
            found.update(i for i in self._subjects.column(number) if self.kind(i).host in nodes)
        return found

    @property
    def serving(self) -> Iterable[PolicyKey]:
        """Policies that name services."""
        return self._served

    def services_of(self, key: PolicyKey) -> set[Service]:
        """The services that a policy names, as they are now."""
        return {found for peer in self._served.get(key, ()) for found in services_of(peer, self._services.values())}

    def policies_of(self, identity: int) -> set[PolicyKey]:
        """Policies that select a subject."""
        return {policy.key for policy, _ in self._selecting(identity)}

    def newer(self, identity: int, revision: int) -> set[PolicyKey]:
        """Policies that select a subject and came, or changed, after that revision."""
        return {policy.key for policy, _ in self._selecting(identity) if policy.revision > revision}

    def kind(self, identity: int) -> Subject:
        return self._special.get(identity, POD)

    def asks_own_ports(self, identity: int) -> bool:
        """Whether a rule calls a port of the subject by name: then what it is compiled into depends on its ports."""
        return any(
            _asks_ports(policy.rules[place])
            for policy, places in self._selecting(identity)
            if policy.asks_ports
            for place in places
        )

    def rules_of(self, identity: int) -> list[Named]:
        """The rules that select a subject, as they were written, each with its name, sorted by it."""
        found = [
            Named(policy.rules[place], _bound(policy.key, policy.rules[place]))
            for policy, places in self._selecting(identity)
            for place in places
        ]
        return sorted(found, key=lambda named: (named.bound is None, named.bound))

    def compile(self, identity: int, own: PortNumbers = NO_PORTS) -> CompiledPolicy:
        """Compile the rules of a subject with these named ports."""
        rules = [
            rule
            for policy, places in self._selecting(identity)
            for place in places
            for rule in self._prepared(policy, own)[place]
        ]
        rules.sort(key=lambda rule: rule.order)
        memo = self._memos.setdefault((identity, own), {}) if identity in self._subjects else None
        return compile_prepared(rules, self.options, self.kind(identity), memo)

    def _prepared(self, policy: _Policy, own: PortNumbers) -> list[tuple[Prepared, ...]]:
        """The rules of a policy, resolved for a subject with these ports, by their places."""
        own = own if policy.asks_ports else NO_PORTS
        found = policy.prepared.get(own)
        if found is None:
            services, numbers = self._services.values(), self._numbers
            found = policy.prepared[own] = []
            place = 0
            for rule in policy.rules:
                bound = _bound(policy.key, rule)
                resolved = resolve(rule, services, own, numbers)
                found.append(tuple(Prepared(one, bound, place + at) for at, one in enumerate(resolved)))
                place += len(resolved)
        return found

    def _selecting(self, identity: int) -> Iterator[tuple[_Policy, tuple[int, ...]]]:
        """The policies that select a subject, with the places of the rules that do."""
        host = self.kind(identity).host
        for number in self._subjects.numbers_of(identity):
            for policy in self._by_subject[number].values():
                places = tuple(p for p in policy.by_subject[number] if policy.rules[p].node is host)
                if places:
                    yield policy, places

    def _using(self, services: Iterable[Service]) -> set[int]:
        """Subjects of the policies that name one of these services."""
        services = list(services)
        return self._again(
            key for key, peers in self._served.items() if any(next(services_of(peer, services), None) for peer in peers)
        )

    def _again(self, policies: Iterable[PolicyKey]) -> set[int]:
        """What these policies name has changed: they are resolved anew; the subjects that they select."""
        affected: set[int] = set()
        for key in policies:
            self._policies[key].prepared.clear()
            affected |= self.selected_by(key)
        return affected

    def _drop(self, key: PolicyKey) -> set[int]:
        affected: set[int] = set()
        policy = self._policies.pop(key, None)
        if policy is None:
            return affected
        for number in policy.by_subject:
            affected.update(self._subjects.column(number))
            holders = self._by_subject[number]
            del holders[key]
            if not holders:
                del self._by_subject[number]
        for rule in policy.rules:
            self._subjects.release(rule.subject)
        self._served.pop(key, None)
        for name in {name for rule in policy.rules for name in names(rule)}:
            if callers := self._calling.get(name):
                callers.discard(key)
                if not callers:
                    del self._calling[name]
        return affected


def _asks_ports(rule: Rule) -> bool:
    return rule.direction is Direction.INGRESS and next(names(rule), None) is not None


def _bound(key: PolicyKey, rule: Rule) -> Bound:
    return Bound(*key, rule.path, rule.log, rule.proxy.summary if rule.proxy else "")
