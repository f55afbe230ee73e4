# SPDX-License-Identifier: Apache-2.0
"""Selectors over label sets: a union of conjunctions of requirements, in one canonical form."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ciliumpy.model.labels import Label


CIDR = "cidr"  # the source of labels that are prefixes


class Operator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Requirement(msgspec.Struct, frozen=True, order=True, cache_hash=True):
    """One condition on one key. Source `any` looks at labels of every source; an unknown source never matches.

    Of source `cidr` the key is a prefix, and the label `cidr:10.1.0.0/16` has every key that contains it: a rule that
    names 10.0.0.0/8 selects the identities of all prefixes in it.
    """

    source: str
    key: str
    operator: Operator
    values: tuple[str, ...] = ()  # sorted; of IN and NOT_IN

    def matches(self, labels: Iterable[Label]) -> bool:
        if self.source == CIDR:
            values = [v for s, k, v in labels if s == CIDR and within(k, self.key)]
        else:
            values = [v for s, k, v in labels if k == self.key and self.source in ("any", s)]
        match self.operator:
            case Operator.IN:
                return any(value in self.values for value in values)
            case Operator.NOT_IN:
                return not any(value in self.values for value in values)
            case Operator.EXISTS:
                return bool(values)
            case Operator.DOES_NOT_EXIST:
                return not values

    def __str__(self) -> str:
        name = f"{self.source}:{self.key}"
        match self.operator:
            case Operator.IN if len(self.values) == 1:
                return f"{name}={self.values[0]}" if self.values[0] else name + "="
            case Operator.IN:
                return f"{name} in ({','.join(self.values)})"
            case Operator.NOT_IN:
                return f"{name} notin ({','.join(self.values)})"
            case Operator.EXISTS:
                return name
            case Operator.DOES_NOT_EXIST:
                return f"!{name}"


@lru_cache(maxsize=1 << 17)
def network(key: str) -> tuple[int, int, int]:
    """Version, address and length of a prefix as labels have it, 10.0.0.0/8 or 2001-db8--/32. ValueError."""
    parsed = ipaddress.ip_network(key.replace("-", ":"))
    return parsed.version, int(parsed.network_address), parsed.prefixlen


def within(inner: str, outer: str) -> bool:
    """Whether the label key of a prefix lies in another's, or is it; not where one of them is no prefix."""
    try:
        (version, address, length), (v, base, least) = network(inner), network(outer)
    except ValueError:
        return False
    bits = (32 if v == 4 else 128) - least
    return version == v and length >= least and address >> bits == base >> bits


Conjunction = tuple[Requirement, ...]


class Selector(msgspec.Struct, frozen=True, order=True, cache_hash=True):
    """Selects a label set that meets all requirements of at least one alternative. No alternative: selects nobody."""

    alternatives: tuple[Conjunction, ...]  # each sorted, and sorted among themselves

    def matches(self, labels: Iterable[Label]) -> bool:
        known = tuple(labels)
        return any(all(r.matches(known) for r in conjunction) for conjunction in self.alternatives)

    @property
    def everybody(self) -> bool:
        return () in self.alternatives

    def __str__(self) -> str:
        if not self.alternatives:
            return "nobody"
        return " | ".join(",".join(str(r) for r in c) or "everybody" for c in self.alternatives)


def one_of(conjunctions: Iterable[Iterable[Requirement]]) -> Selector:
    """The canonical selector of a union."""
    return Selector(tuple(sorted({tuple(sorted(set(c))) for c in conjunctions})))


def all_of(*requirements: Requirement) -> Selector:
    return one_of([requirements])


def equals(source: str, key: str, value: str) -> Requirement:
    return Requirement(source, key, Operator.IN, (value,))


def exists(source: str, key: str) -> Requirement:
    return Requirement(source, key, Operator.EXISTS)


EVERYBODY = Selector(((),))
NOBODY = Selector(())
