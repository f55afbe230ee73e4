# SPDX-License-Identifier: Apache-2.0
"""One event record becomes the flows that Hubble's users know, for a whole block of records at once.

- a new flow: a policy verdict for each leg that was judged here, then a trace event;
- new TCP flags, the 5 s aggregate and a close: a trace event;
- a drop: a policy verdict for the leg that denied it, if one did, then one dropped flow. A leg that redirects to a
  proxy that is not there denies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ciliumpy.flows import columns
from ciliumpy.flows.columns import FLOW, NONE, Column, Mask, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

# enum event_type, event_flags, rule_verdict and hook of bpf/c/layout.h
EVENT_FLOW, EVENT_DROP, EVENT_AGGREGATE, EVENT_CLOSE = 1, 2, 3, 4
IPV6, REPLY, REPLY_UNKNOWN, TO_LOCAL, TO_OVERLAY, TO_HOST, TO_NETWORK, TO_PROXY = (1 << bit for bit in range(8))
RULE_NOT_ASKED, RULE_ALLOWED, RULE_DENIED, RULE_DEFAULT_DENIED, RULE_REDIRECTED = 0, 2, 3, 4, 5
RULE_NO_POLICY, RULE_AUDITED = 7, 0x80
JUDGED = (RULE_ALLOWED, RULE_REDIRECTED)  # and let through
DENIED = (RULE_DENIED, RULE_DEFAULT_DENIED, RULE_NO_POLICY)
NO_PROXY = 180  # the drop reason of what a rule would redirect to a proxy that is not there
HOOK_POD = 1

# Observation points, the datapath's numbers.
POINT_ENDPOINT, POINT_PROXY, POINT_STACK, POINT_OVERLAY, POINT_NETWORK = 0, 1, 3, 4, 11
# Trace reasons, the datapath's numbers.
REASON_NEW, REASON_ESTABLISHED, REASON_REPLY, REASON_UNKNOWN = 0, 1, 2, 5


class Side(NamedTuple):
    """Who stands at one end: one entry a record."""

    party: NDArray[np.uint32]
    identity: NDArray[np.uint32]
    endpoint: NDArray[np.uint32]


class Joined(NamedTuple):
    """What the tables say of a block of records: one entry a record."""

    src: Side
    dst: Side
    egress_rules: NDArray[np.uint32]
    ingress_rules: NDArray[np.uint32]
    egress_match: NDArray[np.uint8]
    ingress_match: NDArray[np.uint8]


class Batch:
    """Records with their names, and the rows that they will be when somebody looks at them.

    Nobody looks at most of them: the rows are made late, once, and then take the records' place.
    """

    def __init__(self, events: Rows, joined: Joined, wall_offset_ns: int) -> None:
        self.events = events
        self.joined = joined
        self.wall_offset_ns = wall_offset_ns
        kind = events["type"]
        self.count = sum(
            int(np.count_nonzero(PARTS[part][kind, events[leg]["verdict"]])) for part, leg in enumerate(LEGS)
        ) + int(np.count_nonzero(KNOWN[kind]))

    def expand(self) -> Rows:
        return expand(self.events, self.joined, self.wall_offset_ns)

    def times(self) -> NDArray[np.int64]:
        """Return the wall time of each record."""
        return self.events["ktime"].astype(np.int64) + self.wall_offset_ns


def _parts() -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which records make a policy verdict, [type, verdict of the leg], for each leg; and which are known."""
    egress, ingress = np.zeros((256, 256), bool), np.zeros((256, 256), bool)
    for table in (egress, ingress):
        table[EVENT_FLOW, JUDGED] = True
        table[EVENT_FLOW, RULE_AUDITED:] = True
        table[EVENT_DROP, [*DENIED, RULE_REDIRECTED]] = True
    known = np.zeros(256, bool)
    known[EVENT_FLOW : EVENT_CLOSE + 1] = True
    return egress, ingress, known


LEGS = ("egress", "ingress")
*PARTS, KNOWN = _parts()


def expand(events: Rows, joined: Joined, wall_offset_ns: int) -> Rows:
    """Return rows of dtype FLOW, in the order of the records.

    `events` are records of `struct event`; `wall_offset_ns` is added to their ktime.
    """
    kind = events["type"]
    judged = [PARTS[part][kind, events[leg]["verdict"]] for part, leg in enumerate(LEGS)]
    parts = np.stack([*judged, KNOWN[kind]], axis=1)
    source, part = np.nonzero(parts)  # sorted by record, then part
    rows = np.zeros(len(source), FLOW)
    rows["part"] = part
    event = columns.take(events, source)
    _copy(rows, event, joined, source, wall_offset_ns)
    _verdicts(rows, event, part, joined, source)
    last = part == columns.PART_EVENT
    dropped = last & (event["type"] == EVENT_DROP)
    _drops(rows, event, dropped)
    _traces(rows, event, last & ~dropped)
    return rows


def _copy(rows: Rows, event: Rows, joined: Joined, source: NDArray[np.intp], wall_offset_ns: int) -> None:
    rows["time"] = event["ktime"].astype(np.int64) + wall_offset_ns
    rows["src_hi"], rows["src_lo"] = columns.halves(event["saddr"])
    rows["dst_hi"], rows["dst_lo"] = columns.halves(event["daddr"])
    for name in ("ktime", "seq", "cpu", "ifindex", "length", "sport", "dport", "protocol", "tcp_flags"):
        rows[name] = event[name]
    rows["ipv6"] = (event["flags"] & IPV6) != 0
    for letter, side in (("src", joined.src), ("dst", joined.dst)):
        for name, column in side._asdict().items():
            rows[f"{letter}_{name}"] = column[source]


def _verdicts(rows: Rows, event: Rows, part: NDArray[np.intp], joined: Joined, source: NDArray[np.intp]) -> None:
    for number, leg, direction in (
        (columns.PART_EGRESS, "egress", columns.EGRESS),
        (columns.PART_INGRESS, "ingress", columns.INGRESS),
    ):
        chosen = part == number
        rows["event_type"][chosen] = columns.POLICY_VERDICT
        audited = event[leg]["verdict"][chosen] >= RULE_AUDITED
        said = event[leg]["verdict"][chosen] & ~np.uint8(RULE_AUDITED)
        dropped = event["type"][chosen] == EVENT_DROP
        passed = np.where(said == RULE_REDIRECTED, columns.REDIRECTED, columns.FORWARDED)
        rows["verdict"][chosen] = np.select([dropped, audited], [columns.DROPPED, columns.AUDIT], passed)
        rows["reason"][chosen] = np.where(dropped, event["reason"][chosen], 0)
        rows["reply"][chosen] = np.where(dropped, -1, 0)  # as Hubble says it: open for what was denied
        rows["direction"][chosen] = direction
        # A default denial has no rule to name.
        named = np.isin(said, (RULE_ALLOWED, RULE_REDIRECTED, RULE_DENIED))
        rows["match"][chosen] = np.where(named, getattr(joined, f"{leg}_match")[source[chosen]], NONE)
        rows[f"{leg}_rules"][chosen] = np.where(named, getattr(joined, f"{leg}_rules")[source[chosen]], 0)
    denied = (part == columns.PART_EVENT) & (event["type"] == EVENT_DROP)
    for leg in ("egress", "ingress"):
        said = denied & np.isin(event[leg]["verdict"], (RULE_DENIED, RULE_REDIRECTED))  # a default one has no rule
        rows[f"{leg}_rules"][said] = getattr(joined, f"{leg}_rules")[source[said]]
        rows["match"][said] = getattr(joined, f"{leg}_match")[source[said]]


def denies(verdict: Column) -> Mask:
    """Return which legs' verdicts, of drops, are what the packet was dropped for."""
    return np.isin(verdict, (*DENIED, RULE_REDIRECTED))


def _drops(rows: Rows, event: Rows, chosen: Mask) -> None:
    """Fill dropped flows. The direction is of the leg that denied, else a pod's own until the other side was asked."""
    some = columns.take(event, chosen)
    rows["event_type"][chosen] = columns.DROP
    rows["verdict"][chosen] = columns.DROPPED
    for name in ("reason", "line", "file", "ext_error"):
        rows[name][chosen] = some[name]
    rows["sub_type"][chosen] = some["reason"]
    rows["reply"][chosen] = -1  # Hubble leaves it open for drops
    rows["direction"][chosen] = np.select(
        [
            denies(some["ingress"]["verdict"]),
            denies(some["egress"]["verdict"]),
            (some["hook"] == HOOK_POD) & (some["ingress"]["verdict"] == RULE_NOT_ASKED),
            some["dst_endpoint"] != 0,
        ],
        [columns.INGRESS, columns.EGRESS, columns.EGRESS, columns.INGRESS],
        columns.UNKNOWN,
    )


def _traces(rows: Rows, event: Rows, chosen: Mask) -> None:
    """Fill trace events. Who reports is the receiver if it is local, else the sender; a reply turns the direction.

    Between a pod and the host, where that is an endpoint, the pod reports.
    """
    some = columns.take(event, chosen)
    flags = some["flags"]
    local = (flags & TO_LOCAL) != 0
    point = np.select(
        [(flags & TO_PROXY) != 0, local, (flags & TO_OVERLAY) != 0, (flags & TO_NETWORK) != 0],
        [POINT_PROXY, POINT_ENDPOINT, POINT_OVERLAY, POINT_NETWORK],
        POINT_STACK,
    )
    reply = np.where((flags & REPLY_UNKNOWN) != 0, -1, (flags & REPLY) != 0).astype(np.int8)
    reason = np.select(
        [reply < 0, reply == 1, some["type"] == EVENT_FLOW],
        [REASON_UNKNOWN, REASON_REPLY, REASON_NEW],
        REASON_ESTABLISHED,
    )
    received = local | (((flags & TO_HOST) != 0) & (some["src_endpoint"] == 0) & (some["dst_endpoint"] != 0))
    reporter = np.where(received, rows["dst_endpoint"][chosen], rows["src_endpoint"][chosen])
    outwards = ~received ^ (reply == 1)
    direction = np.where(outwards, columns.EGRESS, columns.INGRESS)
    rows["event_type"][chosen] = columns.TRACE
    rows["verdict"][chosen] = columns.FORWARDED
    rows["sub_type"][chosen] = point
    rows["reply"][chosen] = reply
    rows["trace_reason"][chosen] = reason
    rows["direction"][chosen] = np.where((reporter == 0) | (reply < 0), columns.UNKNOWN, direction)
