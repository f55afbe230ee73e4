# SPDX-License-Identifier: Apache-2.0
"""From a rule reference {class, level, bit} of an event record to the policies that it stands for."""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ciliumpy.flows.columns import ALL, L3_L4, L3_ONLY, L3_PROTO, L4_ONLY, NONE, PROTO_ONLY
from ciliumpy.flows.memo import Memo, Words
from ciliumpy.flows.names import Names, PolicyName
from ciliumpy.tables.enforcement import POLICY_SETS, Level, PolicySet, PortClass

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ciliumpy.state.database import Database

EVERYBODY = 0xFFFF
KEPT = 4096  # classes of deleted sets that late records may still name

_REFERENCE = np.uint64(0x00FF_FFFF_FFFF_FFFF)  # of struct rule_ref, all but the verdict


class Meaning(NamedTuple):
    """`policies` is an id of Names.rules, `match` a policy match type."""

    policies: int
    match: int


class Rules:
    """Follows the compiled policy sets, and keeps those that just went."""

    def __init__(self, db: Database, names: Names) -> None:
        self._names = names
        self._changes = db.table(POLICY_SETS).observe("flows")
        self._classes: dict[int, tuple[PolicySet, PortClass]] = {}
        self._gone: deque[tuple[int, PolicySet]] = deque()
        self._known = {leg: Memo(1, 2, functools.partial(self._meaning, leg)) for leg in ("egress", "ingress")}
        self._generation = 0

    def of(self, references: Words, leg: str) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        """Return, for each record, the id of the policies that decided the leg, and the match type.

        `references` are struct rule_ref as words in the memory's order (the event rings are read on x86 only).
        """
        self._follow()
        answers = self._known[leg].of(references & _REFERENCE)
        return answers[:, 0], answers[:, 1].astype(np.uint8)

    def _follow(self) -> None:
        if self._changes.pending:
            self._forget()
            for change in self._changes.take():
                for each in change.row.classes:
                    if change.deleted:
                        self._gone.append((each.id, change.row))
                    else:
                        self._classes[each.id] = (change.row, each)
            while len(self._gone) > KEPT:
                number, owner = self._gone.popleft()
                if self._classes.get(number, (None,))[0] is owner:
                    del self._classes[number]
        if self._generation != self._names.generation:
            self._forget()
            self._generation = self._names.generation

    def _forget(self) -> None:
        for known in self._known.values():
            known.clear()

    def _meaning(self, leg: str, reference: int) -> Meaning:
        class_id, bit, level = reference & 0xFFFFFFFF, reference >> 32 & 0xFFFF, reference >> 48
        direction = int(leg == "egress")
        found = self._classes.get(class_id)
        if found is None or level >= len(found[1].levels):
            return Meaning(0, NONE)
        policy_set, port_class = found
        chosen = port_class.levels[level]
        policies = _policies({text for at, text in chosen.rules if at == bit}, chosen, policy_set.revision)
        return Meaning(self._names.rules.id(policies), _match(policy_set, class_id, direction, chosen.everybody))


def _policies(rules: set[str], level: Level, revision: int) -> tuple[PolicyName, ...]:
    """Return the policies of these rules, "Kind/namespace/name#path" each, with what the rules have to say."""
    said = [remark for remark in level.remarks if remark[0] in rules]
    found = []
    for text in sorted({rule.partition("#")[0] for rule in rules}):
        own = [(rule.partition("#")[2], log, asks) for rule, log, asks in said if rule.partition("#")[0] == text]
        logs = tuple(dict.fromkeys(log for _, log, _ in own if log))
        asks = tuple(f"{asks} ({path})" for path, _, asks in own if asks)
        kind, *namespace, name = text.split("/")
        found.append(PolicyName(kind, "".join(namespace), name, revision, logs, asks))
    return tuple(found)


def _match(policy_set: PolicySet, class_id: int, direction: int, everybody: bool) -> int:
    if policy_set.default_class[direction] == class_id:
        return ALL if everybody else L3_ONLY
    row = next((r for r in policy_set.ports if r.class_id == class_id and r.direction == direction), None)
    if row is not None and (row.first, row.last) == (0, 65535):
        return PROTO_ONLY if everybody else L3_PROTO
    return L4_ONLY if everybody else L3_L4
