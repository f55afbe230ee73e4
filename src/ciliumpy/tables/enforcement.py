# SPDX-License-Identifier: Apache-2.0
"""Policy as the kernel shall hold it: vectors, sets, classes. Written by enforcement/controller.py alone.

The encoding is that of bpf/c/layout.h. Masks and vectors are `VECTOR_BITS / 8` little-endian bytes.
"""

from __future__ import annotations

import msgspec

from ciliumpy.state.table import TableSpec
from ciliumpy.tables.source import NamedPort

EVERYBODY_BIT = 0xFFFF  # in a rule reference: the level meets everybody


class SelectorBit(msgspec.Struct, frozen=True):
    """A selector in use on this node. Its bit is free again only when no set names it and every vector has it clear."""

    bit: int
    selector: str  # canonical text


class WantedWidth(msgspec.Struct, frozen=True):
    """How many selectors this node's policies need room for; no row: whatever there is."""

    bits: int


class SelectorVector(msgspec.Struct, frozen=True):
    identity: int
    words: bytes


class Level(msgspec.Struct, frozen=True):
    verdict: int  # enum level_verdict
    everybody: bool = False
    proxy_port: int = 0  # of a pass: the level to go on with
    mask: bytes = b""
    rules: tuple[tuple[int, str], ...] = ()  # (bit or 0xffff, "Kind/namespace/name#spec.ingress[0]"): who to name
    stat: int = 0  # where the kernel counts what it decides; 0: nowhere
    remarks: tuple[tuple[str, str, str], ...] = ()  # (rule, log value, what it asks of a proxy), of those that have one


class PortClass(msgspec.Struct, frozen=True):
    id: int
    levels: tuple[Level, ...]


class PortRow(msgspec.Struct, frozen=True):
    direction: int  # 0 ingress, 1 egress
    protocol: int
    first: int
    last: int  # == first: an exact row
    class_id: int


class PolicySet(msgspec.Struct, frozen=True):
    """The compiled policy of one identity on this node. Immutable: a change is a new id.

    Where a rule calls a port of the identity's pods by name there is a set for each of the port lists that these have.
    `current` tells whether endpoints shall point at it; a superseded set stays, not current, until the datapath has let
    go of it.
    """

    id: int
    identity: int
    ingress_enforced: bool
    egress_enforced: bool
    default_class: tuple[int, int]  # ingress, egress; 0 = nobody
    ports: tuple[PortRow, ...]
    classes: tuple[PortClass, ...]
    revision: int  # of the policy repository it was compiled from
    current: bool = True
    named_ports: tuple[NamedPort, ...] | None = None  # of the endpoints it is for; None: of all of the identity
    denied_stat: tuple[int, int] = (0, 0)  # ingress, egress: where default denials are counted


class CalledPod(msgspec.Struct, frozen=True):
    """As whom policies reach a pod by the names of its ports.

    Who carries a changed identity of a pod with named ports into the kernel waits for this row, at most
    `CALLED_WAIT_S`, because a rule for a named port would not hold at the new identity before.
    """

    namespace: str
    pod: str
    identity: int


CALLED_WAIT_S = 3.0
SELECTOR_BITS = TableSpec("selector-bits", SelectorBit, key=lambda r: r.bit)
WANTED_WIDTH = TableSpec("wanted-width", WantedWidth, key=lambda _: 0)
VECTORS = TableSpec("vectors", SelectorVector, key=lambda r: r.identity)
CALLED_PODS = TableSpec("called-pods", CalledPod, key=lambda r: (r.namespace, r.pod))
POLICY_SETS = TableSpec("policy-sets", PolicySet, key=lambda r: r.id, indexes={"identity": lambda r: (r.identity,)})


def origins(row: PolicySet, class_id: int, level: int, bit: int) -> tuple[str, ...]:
    """Return the rules that decided, "Kind/namespace/name#path" each; none where no rule did."""
    for one in row.classes:
        if one.id == class_id and level < len(one.levels):
            return tuple(origin for named, origin in one.levels[level].rules if named == bit)
    return ()
