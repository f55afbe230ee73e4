# SPDX-License-Identifier: Apache-2.0
"""The datapath's policy lookup (bpf/c/policy.h) in Python, over encoded rows."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from ciliumpy.model.verdicts import Verdict
from ciliumpy.tables.enforcement import EVERYBODY_BIT, PolicySet, PortClass, origins


class Answer(NamedTuple):
    verdict: str  # allowed, denied, redirected
    matched: bool  # a level decided
    rules: tuple[str, ...] = ()


WORDS = {Verdict.DENY: "denied", Verdict.ALLOW: "allowed", Verdict.REDIRECT: "redirected"}


def lookup(row: PolicySet, vectors: Mapping[int, bytes], peer: int, direction: int, protocol: int, port: int) -> Answer:
    if not (row.ingress_enforced, row.egress_enforced)[direction]:
        return Answer("allowed", matched=False)
    number = class_of(row, direction, protocol, port)
    if not number:
        return Answer("denied", matched=False)
    [port_class] = [c for c in row.classes if c.id == number]
    return decide(row, port_class, vectors.get(peer))


def class_of(row: PolicySet, direction: int, protocol: int, port: int) -> int:
    rows = [r for r in row.ports if (r.direction, r.protocol) == (direction, protocol)]
    for one in rows:
        if one.first == one.last == port:
            return one.class_id
    ranges = sorted((r for r in rows if r.first != r.last), key=lambda r: r.first)
    assert len(ranges) <= 64
    assert all(one.last < other.first for one, other in pairwise(ranges)), "ranges overlap"
    for one in ranges:
        if one.first <= port <= one.last:
            return one.class_id
    return row.default_class[direction]


def decide(row: PolicySet, port_class: PortClass, vector: bytes | None) -> Answer:
    assert len(port_class.levels) <= 16
    at = 0
    while at < len(port_class.levels):
        level = port_class.levels[at]
        assert level.verdict, "a level without a verdict ends the list"
        common = 0 if vector is None else int.from_bytes(level.mask, "little") & int.from_bytes(vector, "little")
        if level.everybody:
            bit = EVERYBODY_BIT
        elif vector is None and level.verdict == Verdict.DENY:
            return Answer("denied", matched=True)
        elif common:
            bit = (common & -common).bit_length() - 1
        else:
            at += 1
            continue
        if level.verdict == Verdict.PASS:
            assert level.proxy_port > at, "a pass leads forward"
            at = level.proxy_port
            continue
        return Answer(WORDS[Verdict(level.verdict)], matched=True, rules=origins(row, port_class.id, at, bit))
    return Answer("denied", matched=False)
