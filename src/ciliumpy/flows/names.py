# SPDX-License-Identifier: Apache-2.0
"""Names of a history's rows: what stands behind the numbers in its name columns.

Ids are only ever added, so that a row keeps the names of its time; `sweep` frees those that no row uses any more.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, NamedTuple, TypeVar

V = TypeVar("V", bound=Hashable)


class Party(NamedTuple):
    """Who was behind one end of a flow when it arrived."""

    namespace: str = ""
    pod: str = ""
    labels: tuple[str, ...] = ()  # sorted source:key=value
    cluster: str = ""
    workload_kind: str = ""
    workload_name: str = ""


class PolicyName(NamedTuple):
    """A policy object that a deciding rule came from."""

    kind: str
    namespace: str
    name: str
    revision: int = 0
    logs: tuple[str, ...] = ()  # log values of the rules that decided
    asks: tuple[str, ...] = ()  # what they want a proxy to look at, with the rule's path


def wanted(policies: Iterable[PolicyName]) -> list[str]:
    """Return what rules that redirect want a proxy to look at: `shop/api wants http GET /public (spec.ingress[0])`."""
    return [
        f"{'/'.join(filter(None, (policy.namespace, policy.name)))} wants {text}"
        for policy in policies
        for text in policy.asks
    ]


class Intern(Generic[V]):
    """Values by id and ids by value. Id 0 is `nobody`, and stays."""

    def __init__(self, nobody: V) -> None:
        self._nobody = nobody
        self._values: dict[int, V] = {0: nobody}
        self._ids: dict[V, int] = {nobody: 0}
        self._next = 1

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, number: int) -> V:
        """Return the value; `nobody` for an id that was freed."""
        return self._values.get(number, self._nobody)

    def id(self, value: V) -> int:
        number = self._ids.get(value)
        if number is None:
            number = self._next
            self._next += 1
            self._ids[value] = number
            self._values[number] = value
        return number

    def sweep(self, used: Iterable[int]) -> None:
        """Free every id that is not in `used`. Numbers are not given out again."""
        kept = {number: self._values[number] for number in {0, *used} if number in self._values}
        self._values = kept
        self._ids = {value: number for number, value in kept.items()}


class Names:
    """All names of one history."""

    def __init__(self) -> None:
        self.parties: Intern[Party] = Intern(Party())
        self.rules: Intern[tuple[PolicyName, ...]] = Intern(())
        self.interfaces: dict[int, str] = {}
        """Of this node, by ifindex, as they were when a flow first came through them."""
        self.generation = 0
        """Grows when ids were freed: whoever remembers some asks again."""

    def __len__(self) -> int:
        return len(self.parties) + len(self.rules)

    def sweep(self, parties: Iterable[int], rules: Iterable[int]) -> None:
        self.parties.sweep(parties)
        self.rules.sweep(rules)
        self.generation += 1
