# SPDX-License-Identifier: Apache-2.0
"""FlowFilter over columns: a filter becomes a boolean mask for a whole block of rows.

A filter is the AND of its fields, a field the OR of its values; a row passes if the whitelist is empty or one of its
filters matches, and none of the blacklist does. A filter without fields matches everything. Names and labels are asked
once per distinct id. Fields that our rows never carry (DNS names, HTTP, services, translated sources) match nothing,
as in Hubble; what cannot be judged at all is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ciliumpy.flows import columns, patterns
from ciliumpy.flows.columns import Mask, Rows
from ciliumpy.flows.l4 import FLAG_BITS, ICMP, ICMPV6, SCTP, TCP, UDP
from ciliumpy.flows.to_flow import parse_uuid

if TYPE_CHECKING:
    from ciliumpy.flows.names import Names, Party
    from ciliumpy.proto import flow_pb2

Test = Callable[[Rows], Mask]
PROTOCOL_NUMBERS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP, "ICMPv4": ICMP, "ICMPv6": ICMPV6}


class FlowMatcher:
    """A request's whitelist and blacklist over the rows of one node. CiliumpyError if a filter means nothing."""

    def __init__(
        self,
        whitelist: Iterable[flow_pb2.FlowFilter],
        blacklist: Iterable[flow_pb2.FlowFilter],
        names: Names,
        node_name: str = "",
        node_labels: Sequence[str] = (),
    ) -> None:
        self._names = names
        self._node_name = node_name
        self._node_labels = patterns.labels_of(node_labels)
        self._whitelist = [self._filter(each) for each in whitelist]
        self._blacklist = [self._filter(each) for each in blacklist]

    @property
    def passes_all(self) -> bool:
        return not self._whitelist and not self._blacklist

    def mask(self, rows: Rows) -> Mask:
        """Return which rows pass. A loss always does: it is no flow."""
        if self.passes_all:
            return np.ones(len(rows), bool)
        passed = np.zeros(len(rows), bool) if self._whitelist else np.ones(len(rows), bool)
        for tests in self._whitelist:
            passed |= _all(tests, rows)
        for tests in self._blacklist:
            if passed.any():
                passed &= ~_all(tests, rows)
        passed |= rows["event_type"] == columns.LOST
        return passed

    def _filter(self, wanted: flow_pb2.FlowFilter) -> list[Test]:
        patterns.check(wanted)
        tests: list[Test] = []
        if wanted.uuid:
            tests.append(_uuid(wanted.uuid))
        if wanted.event_type:
            tests.append(_event_type(wanted.event_type))
        if wanted.verdict:
            tests.append(_one_of("verdict", wanted.verdict))
        if wanted.drop_reason_desc:
            reasons = _one_of("reason", wanted.drop_reason_desc)
            tests.append(lambda rows: (rows["verdict"] == columns.DROPPED) & reasons(rows))
        if wanted.reply:
            tests.append(_reply(wanted.reply))
        if wanted.encrypted and False not in wanted.encrypted:
            tests.append(_nothing)
        if wanted.traffic_direction:
            tests.append(_one_of("direction", wanted.traffic_direction))
        if wanted.ip_version:
            tests.append(_one_of("ipv6", [version - 1 for version in wanted.ip_version if version]))
        if wanted.protocol:
            names = {name for text in wanted.protocol for name in patterns.protocol(text)}
            tests.append(_one_of("protocol", [PROTOCOL_NUMBERS[name] for name in names & PROTOCOL_NUMBERS.keys()]))
        if wanted.tcp_flags:
            tests.append(_tcp_flags(wanted.tcp_flags))
        for side, letter in (("source", "src"), ("destination", "dst")):
            tests += self._side(wanted, side, letter)
        if wanted.interface:
            tests.append(self._interface(wanted.interface))
        if wanted.node_name and not patterns.node_patterns(wanted.node_name)(self._node_name):
            tests.append(_nothing)
        if wanted.node_labels:
            selectors = [patterns.label_selector(text, "node label") for text in wanted.node_labels]
            if not any(selector.matches(self._node_labels) for selector in selectors):
                tests.append(_nothing)
        if any(getattr(wanted, name) for name in NEVER_SET):
            tests.append(_nothing)
        return tests

    def _side(self, wanted: flow_pb2.FlowFilter, side: str, letter: str) -> list[Test]:
        tests: list[Test] = []
        if identities := getattr(wanted, f"{side}_identity"):
            tests.append(_one_of(f"{letter}_identity", identities))
        if ports := getattr(wanted, f"{side}_port"):
            numbers = [patterns.port(text, side) for text in ports]
            tests.append(_ports("sport" if letter == "src" else "dport", numbers))
        if addresses := getattr(wanted, f"{side}_ip"):
            tests.append(_addresses(letter, [patterns.address_pattern(text) for text in addresses]))
        if pods := getattr(wanted, f"{side}_pod"):
            wanted_pods = [patterns.name_pattern(text) for text in pods]
            tests.append(self._party(letter, lambda p: any(w.matches(p.namespace, p.pod) for w in wanted_pods)))
        if workloads := getattr(wanted, f"{side}_workload"):
            pairs = [(each.kind, each.name) for each in workloads]
            tests.append(self._party(letter, lambda p: _works(p, pairs)))
        if labels := getattr(wanted, f"{side}_label"):
            selectors = [patterns.label_selector(text, f"{side} label") for text in labels]
            tests.append(self._party(letter, lambda p: any(s.matches(patterns.labels_of(p.labels)) for s in selectors)))
        if clusters := getattr(wanted, f"{side}_cluster_name"):
            tests.append(self._party(letter, lambda p: p.cluster in clusters))
        return tests

    def _party(self, letter: str, wanted: Callable[[Party], bool]) -> Test:
        """Return a test of who was behind an end, asked once for each party."""
        answers: dict[int, bool] = {}

        def test(rows: Rows) -> Mask:
            distinct, inverse = np.unique(rows[f"{letter}_party"], return_inverse=True)
            for number in distinct.tolist():
                if number not in answers:
                    answers[number] = wanted(self._names.parties[number])
            return np.array([answers[number] for number in distinct.tolist()], bool)[inverse]

        return test

    def _interface(self, wanted: Iterable[flow_pb2.NetworkInterface]) -> Test:
        pairs = [(each.index, each.name) for each in wanted]

        def test(rows: Rows) -> Mask:
            known = [number for number in np.unique(rows["ifindex"]).tolist() if number]
            fitting = [
                number
                for number in known
                if any(
                    index in (0, number) and name in ("", self._names.interfaces.get(number, ""))
                    for index, name in pairs
                )
            ]
            mask = np.isin(rows["ifindex"], fitting)
            mask &= rows["event_type"] == columns.TRACE
            return mask

        return test


# Our rows have none of these, so a filter that asks for one matches nothing.
NEVER_SET = (
    "source_fqdn",
    "destination_fqdn",
    "dns_query",
    "source_service",
    "destination_service",
    "source_ip_xlated",
    "http_status_code",
    "http_method",
    "http_path",
    "http_url",
    "http_header",
    "trace_id",
    "ip_trace_id",
)


def _all(tests: Sequence[Test], rows: Rows) -> Mask:
    mask = np.ones(len(rows), bool)
    for test in tests:
        mask &= test(rows)
        if not mask.any():
            break
    return mask


def _nothing(rows: Rows) -> Mask:
    return np.zeros(len(rows), bool)


def _one_of(column: str, values: Iterable[int]) -> Test:
    wanted = np.array(sorted(set(values)), np.int64)
    return lambda rows: np.isin(rows[column], wanted)


def _ports(column: str, numbers: Sequence[int]) -> Test:
    return lambda rows: np.isin(rows[column], numbers) & np.isin(rows["protocol"], (TCP, UDP, SCTP))


def _reply(values: Sequence[bool]) -> Test:
    def test(rows: Rows) -> Mask:
        mask = np.zeros(len(rows), bool)
        if True in values:
            mask |= rows["reply"] == 1
        if False in values:
            mask |= (rows["reply"] == 0) | ((rows["reply"] < 0) & (rows["verdict"] == columns.DROPPED))
        return mask

    return test


def _event_type(wanted: Iterable[flow_pb2.EventTypeFilter]) -> Test:
    entries = [(each.type, each.sub_type if each.match_sub_type else None) for each in wanted]

    def test(rows: Rows) -> Mask:
        mask = np.zeros(len(rows), bool)
        for kind, sub_type in entries:
            one = np.ones(len(rows), bool) if kind == 0 else rows["event_type"] == kind
            mask |= one if sub_type is None else one & (rows["sub_type"] == sub_type)
        return mask

    return test


def _tcp_flags(wanted: Iterable[flow_pb2.TCPFlags]) -> Test:
    # NS is not in the record: who asks for it gets nothing.
    bits = [sum(bit for name, bit in FLAG_BITS.items() if getattr(each, name)) for each in wanted if not each.NS]

    def test(rows: Rows) -> Mask:
        mask = np.zeros(len(rows), bool)
        for each in bits:
            mask |= (rows["tcp_flags"] & each) == each
        mask &= rows["protocol"] == TCP
        return mask

    return test


def _addresses(letter: str, wanted: Sequence[patterns.AddressPattern]) -> Test:
    limits = []
    for each in wanted:
        ipv6 = each.version == 6
        if each.text and columns.ip_text(each.network >> 64, each.network & (1 << 64) - 1, ipv6) != each.text:
            continue  # compared as text: a spelling that we never write
        low = each.network if ipv6 else columns.MAPPED | each.network
        mask = each.mask if ipv6 else (1 << 96) - 1 << 32 | each.mask
        limits.append((ipv6, mask >> 64, mask & (1 << 64) - 1, low >> 64, low & (1 << 64) - 1))

    def test(rows: Rows) -> Mask:
        mask = np.zeros(len(rows), bool)
        for ipv6, mask_hi, mask_lo, hi, lo in limits:
            mask |= (
                (rows["ipv6"] == ipv6)
                & ((rows[f"{letter}_hi"] & np.uint64(mask_hi)) == np.uint64(hi))
                & ((rows[f"{letter}_lo"] & np.uint64(mask_lo)) == np.uint64(lo))
            )
        return mask

    return test


def _uuid(texts: Iterable[str]) -> Test:
    wanted = [found for text in texts if (found := parse_uuid(text)) is not None]

    def test(rows: Rows) -> Mask:
        mask = np.zeros(len(rows), bool)
        for ktime, cpu, seq, part in wanted:
            mask |= (
                (rows["ktime"] & np.uint64(0xFFFF_FFFF_FFFF) == ktime)
                & (rows["cpu"] & 0x3FFF == cpu)
                & (rows["seq"] == seq)
                & (rows["part"] == part)
            )
        return mask

    return test


def _works(party: Party, wanted: Iterable[tuple[str, str]]) -> bool:
    return bool(party.workload_name) and any(
        kind in ("", party.workload_kind) and name in ("", party.workload_name) for kind, name in wanted
    )
