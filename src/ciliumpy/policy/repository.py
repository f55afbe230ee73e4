# SPDX-License-Identifier: Apache-2.0
"""All policies in force, and the identities whose compiled policy a change concerns."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.model.identity import Reserved
from ciliumpy.model.rule import ServicePeer
from ciliumpy.model.verdicts import Direction
from ciliumpy.policy.compile import DEFAULTS, Named, Subject, compile_policy
from ciliumpy.policy.compiled import Bound, CompiledPolicy
from ciliumpy.policy.resolve import NO_PORTS, PortName, PortNumbers, Service, names, resolve, services_of
from ciliumpy.policy.selector_cache import SelectorCache

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ciliumpy.model.options import PolicyOptions
    from ciliumpy.model.rule import Rule
    from ciliumpy.model.selectors import Selector


HOST, INIT = (f"reserved:{which.label}" for which in (Reserved.HOST, Reserved.INIT))


class PolicyKey(NamedTuple):
    kind: str
    namespace: str
    name: str


class Repository:
    """Policies by key, and the subjects: identities that endpoints of this node have.

    `revision` counts changes of policies. Every method that changes something returns the subjects to compile again.
    """

    def __init__(self, options: PolicyOptions = DEFAULTS) -> None:
        self.revision = 1
        self.options = options
        self._policies: dict[PolicyKey, tuple[Rule, ...]] = {}
        self._by_subject: dict[Selector, dict[PolicyKey, tuple[Rule, ...]]] = {}
        self._subjects = SelectorCache()
        self._special: dict[int, Subject] = {}  # subjects that are no ordinary pod
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
        if self._policies.get(key) == tuple(rules):
            return set()
        affected = self._drop(key)
        self.revision += 1
        self._policies[key] = tuple(rules)
        for subject in dict.fromkeys(rule.subject for rule in rules):
            self._subjects.acquire(subject)
            own = tuple(rule for rule in rules if rule.subject == subject)
            self._by_subject.setdefault(subject, {})[key] = own
            affected |= self._subjects.members(subject)
        for rule in rules:
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
        known = identity in self._subjects and special == self._special.get(identity, Subject())
        gained, lost = self._subjects.set_identity(identity, labels)
        self._special.pop(identity, None)
        if special != Subject():
            self._special[identity] = special
        return {identity} if gained or lost or not known else set()

    def remove_subject(self, identity: int) -> None:
        self._subjects.remove_identity(identity)
        self._special.pop(identity, None)

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
        affected: set[int] = set()
        for key in {key for called in changed for key in self._calling.get(called, ())}:
            affected |= self.selected_by(key)
        return affected

    # What is asked.

    def selected_by(self, key: PolicyKey) -> set[int]:
        """Subjects that a policy selects."""
        return {
            identity
            for subject, node in {(rule.subject, rule.node) for rule in self._policies.get(key, ())}
            for identity in self._subjects.members(subject)
            if self.kind(identity).host is node
        }

    def policies_of(self, identity: int) -> set[PolicyKey]:
        """Policies that select a subject."""
        return {PolicyKey(*named.bound[:3]) for named in self._selecting(identity)}

    def kind(self, identity: int) -> Subject:
        return self._special.get(identity, Subject())

    def asks_own_ports(self, identity: int) -> bool:
        """Whether a rule calls a port of the subject by name: then what it is compiled into depends on its ports."""
        return any(
            n.rule.direction is Direction.INGRESS and next(names(n.rule), None) for n in self._selecting(identity)
        )

    def rules_of(self, identity: int) -> list[Named]:
        """The rules that select a subject, as they were written, each with its name, sorted by it."""
        found = [Named(rule, Bound(*bound)) for rule, bound in self._selecting(identity)]
        return sorted(found, key=lambda named: (named.bound is None, named.bound))

    def compile(self, identity: int, own: PortNumbers = NO_PORTS) -> CompiledPolicy:
        """Compile the rules of a subject with these named ports."""
        services, numbers = self._services.values(), self._numbers
        rules = [
            Named(rule, bound)
            for written, bound in self.rules_of(identity)
            for rule in resolve(written, services, own, numbers)
        ]
        return compile_policy(rules, self.options, self.kind(identity))

    def _selecting(self, identity: int) -> Iterable[_Selecting]:
        host = self.kind(identity).host
        for subject in self._subjects.met_by(identity):
            for key, rules in self._by_subject.get(subject, {}).items():
                for rule in rules:
                    if rule.node is host:
                        yield _Selecting(rule, (*key, rule.path))

    def _using(self, services: Iterable[Service]) -> set[int]:
        """Subjects of the policies that name one of these services."""
        services = list(services)
        affected: set[int] = set()
        for key, peers in self._served.items():
            if any(next(services_of(peer, services), None) for peer in peers):
                affected |= self.selected_by(key)
        return affected

    def _drop(self, key: PolicyKey) -> set[int]:
        affected: set[int] = set()
        rules = self._policies.pop(key, ())
        for subject in dict.fromkeys(rule.subject for rule in rules):
            affected |= self._subjects.members(subject)
            holders = self._by_subject[subject]
            del holders[key]
            if not holders:
                del self._by_subject[subject]
            self._subjects.release(subject)
        self._served.pop(key, None)
        for name in {name for rule in rules for name in names(rule)}:
            if callers := self._calling.get(name):
                callers.discard(key)
                if not callers:
                    del self._calling[name]
        return affected


class _Selecting(NamedTuple):
    rule: Rule
    bound: tuple[str, str, str, str]
