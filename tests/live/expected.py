# SPDX-License-Identifier: Apache-2.0
"""What the rules say of pods: documents and labels in, who may send to whom out. Slow, and straight from the rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ciliumpy.model.cnp import decode_policy
from ciliumpy.model.knp import decode_network_policy
from ciliumpy.model.labels import Label, parse
from ciliumpy.model.ports import parse_protocol
from ciliumpy.model.verdicts import Direction
from ciliumpy.policy.oracle import judge
from ciliumpy.policy.prepared import Named
from ciliumpy.policy.resolve import port_label


class Rules:
    """Those of some policies."""

    def __init__(self, documents: Iterable[Mapping[str, Any]]) -> None:
        self._rules = []
        for document in documents:
            decode = decode_network_policy if document["kind"] == "NetworkPolicy" else decode_policy
            self._rules += [Named(rule, None) for rule in decode(dict(document)).rules]

    def allow(self, one: tuple[Label, ...], other: tuple[Label, ...], protocol: str, port: int) -> bool:
        return self.let_out(one, other, protocol, port) and self.let_in(one, other, protocol, port)

    def let_out(self, one: tuple[Label, ...], other: tuple[Label, ...], protocol: str, port: int) -> bool:
        [number] = parse_protocol(protocol)
        return judge(self._rules, Direction.EGRESS, one, other, number, port).verdict == "allowed"

    def let_in(self, one: tuple[Label, ...], other: tuple[Label, ...], protocol: str, port: int) -> bool:
        [number] = parse_protocol(protocol)
        return judge(self._rules, Direction.INGRESS, other, one, number, port).verdict == "allowed"


def labels_of(texts: Iterable[str], ports: Iterable[Mapping[str, Any]]) -> tuple[Label, ...]:
    """Identity labels and, beside them, those of the ports that the pod's containers name."""
    named = []
    for each in ports:
        [number] = parse_protocol(each["protocol"])
        named.append(port_label(number, each["name"], each["containerPort"]))
    return tuple(parse(text) for text in [*texts, *named])
