# SPDX-License-Identifier: Apache-2.0
"""How policy in the datapath looks in the admin API: selectors with who meets them, and an endpoint's two states."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ciliumpy.tables.datapath import KERNEL_ENDPOINTS
from ciliumpy.tables.enforcement import POLICY_SETS, SELECTOR_BITS, VECTORS, PolicySet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ciliumpy.api.awaited import PolicyView
    from ciliumpy.state.database import Database
    from ciliumpy.tables.endpoints import Endpoint
    from ciliumpy.tables.enforcement import SelectorVector

Object = dict[str, Any]
Row = tuple[int, int, int, int, int, int, int]  # direction, protocol, first, last, place of the level, verdict, bit

AT_ONCE = 1024  # vectors that are looked at as one matrix


def selectors(db: Database) -> list[Object]:
    """Return the selectors that sets of this node name, by bit. For a thread: it looks at every vector.

    `users` are the rules of current sets that name it, `identities` those that meet it.
    """
    users: dict[int, set[str]] = defaultdict(set)
    for row in db.table(POLICY_SETS).all():
        if row.current:
            for one in row.classes:
                for level in one.levels:
                    for bit, origin in level.rules:
                        users[bit].add(origin)
    rows = sorted(db.table(SELECTOR_BITS).all(), key=lambda each: each.bit)
    members = _members(db.table(VECTORS).all())
    return [
        {
            "bit": row.bit,
            "selector": row.selector,
            "policies": sorted({origin.partition("#")[0] for origin in users[row.bit]}),
            "users": len(users[row.bit]),
            "identities": sorted(members.get(row.bit, ())),
        }
        for row in rows
    ]


def _members(vectors: Sequence[SelectorVector]) -> dict[int, list[int]]:
    """Identities by the bits that their vectors have set."""
    found: dict[int, list[int]] = defaultdict(list)
    for start in range(0, len(vectors), AT_ONCE):
        part = vectors[start : start + AT_ONCE]
        width = max(len(each.words) for each in part)
        matrix = np.frombuffer(b"".join(each.words.ljust(width, b"\0") for each in part), np.uint8)
        rows, bits = np.nonzero(np.unpackbits(matrix.reshape(len(part), width), axis=1, bitorder="little"))
        for row, bit in zip(rows.tolist(), bits.tolist(), strict=True):
            found[bit].append(part[row].identity)
    return found


def endpoint_policy(db: Database, policies: PolicyView, row: Endpoint) -> Object:
    """Return what an endpoint is judged by (realised), what it shall be judged by (desired), and the difference."""
    kernel = db.table(KERNEL_ENDPOINTS).get(row.id)
    realised = db.table(POLICY_SETS).get(kernel.policy_set) if kernel else None
    desired = _desired(db, row)
    state, errors = "in-force", policies.refusals_of(row.identity)
    if kernel is not None:
        status = db.table(KERNEL_ENDPOINTS).status(row.id)
        if status.state != "done":
            state = status.state
            errors += [status.error] if status.error else []
    if kernel is None or desired is None or kernel.policy_set != desired.id:
        state = "pending"
    if desired is not None and (fault := db.table(POLICY_SETS).status(desired.id)).state == "error":
        errors.append(fault.error)
    return {
        "state": "error" if errors else state,
        "error": "; ".join(dict.fromkeys(errors)),
        "revision": policies.counts.revision,
        "realised": _set(kernel.policy_set if kernel else 0, realised),
        "desired": _set(desired.id if desired else 0, desired),
        "difference": list(_difference(realised, desired)),
    }


def _desired(db: Database, row: Endpoint) -> PolicySet | None:
    sets = db.table(POLICY_SETS).by("identity", row.identity) if row.identity else []
    own = [each for each in sets if each.current and each.named_ports in (None, row.named_ports)]
    return max(own, key=lambda each: each.id, default=None)


def _set(number: int, row: PolicySet | None) -> Object:
    """A set; one that the agent has let go of has its number only."""
    if row is None:
        return {"set": number, "revision": 0, "ingress": "unknown", "egress": "unknown", "rules": []}
    return {
        "set": number,
        "revision": row.revision,
        "ingress": "enabled" if row.ingress_enforced else "disabled",
        "egress": "enabled" if row.egress_enforced else "disabled",
        "rules": sorted(_rules(row)),
    }


def _difference(realised: PolicySet | None, desired: PolicySet | None) -> Iterator[Object]:
    """The rules that are not in force as they shall be: wanted, no longer wanted, with other peers, ports, verdict."""
    before, after = (_rules(row) if row else {} for row in (realised, desired))
    for origin in sorted(before.keys() | after.keys()):
        if origin not in before:
            yield {"rule": origin, "change": "not yet in force"}
        elif origin not in after:
            yield {"rule": origin, "change": "still in force"}
        elif before[origin] != after[origin]:
            yield {"rule": origin, "change": "in force as it was before"}
    for direction in ("ingress", "egress"):
        was, shall = (bool(row and getattr(row, f"{direction}_enforced")) for row in (realised, desired))
        if was != shall:
            yield {"rule": f"default deny {direction}", "change": "still in force" if was else "not yet in force"}


def _rules(row: PolicySet) -> dict[str, set[Row]]:
    """The rules that a set was made of, "Kind/namespace/name#path", each with what it says."""
    classes = {one.id: one for one in row.classes}
    ports = [(each.direction, each.protocol, each.first, each.last, each.class_id) for each in row.ports]
    ports += [(direction, 0, 0, 65535, number) for direction, number in enumerate(row.default_class) if number]
    found: dict[str, set[Row]] = defaultdict(set)
    for direction, protocol, first, last, number in ports:
        for place, level in enumerate(classes[number].levels if number in classes else ()):
            for bit, origin in level.rules:
                found[origin].add((direction, protocol, first, last, place, level.verdict, bit))
    return found
