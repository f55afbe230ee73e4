# SPDX-License-Identifier: Apache-2.0
"""Rows as records for the monitor: plain dicts, which go over the admin socket as lines of JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

from ciliumpy.flows import columns
from ciliumpy.flows.columns import ip_text
from ciliumpy.flows.l4 import l4_words
from ciliumpy.flows.monitor_text import TYPES
from ciliumpy.flows.names import wanted
from ciliumpy.flows.source_files import source_file
from ciliumpy.model.drop_reasons import drop_text
from ciliumpy.model.trace_points import TRACE_POINTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from ciliumpy.flows.columns import Rows
    from ciliumpy.flows.names import Names

Record = dict[str, Any]

POINTS = dict(enumerate(TRACE_POINTS))
STATES = {0: "new", 1: "established", 2: "reply", 3: "related"}
MATCHES = ("none", "L3-Only", "L3-L4", "L4-Only", "all", "L3-Proto", "Proto-Only")
ACTIONS = {columns.FORWARDED: "allow", columns.DROPPED: "deny", columns.REDIRECTED: "redirect", columns.AUDIT: "audit"}
DIRECTIONS = {1: "ingress", 2: "egress"}


def records(rows: Rows, names: Names, types: Collection[str] = ()) -> Iterator[Record]:
    """Yield a record of each row of dtype FLOW whose type is wanted (none named: all). A loss is always told."""
    fields = rows.dtype.names or ()
    for row in rows.tolist():
        value = dict(zip(fields, row, strict=True))
        if value["event_type"] == columns.LOST:
            yield {"type": "lost", "cpu": value["cpu"], "lost": value["ktime"], "timeNs": value["time"]}
            continue
        kind = TYPES[value["event_type"]]
        if types and kind not in types:
            continue
        protocol, detail = l4_words(value["protocol"], value["sport"], value["dport"], value["tcp_flags"])
        record = {
            "type": kind,
            "cpu": value["cpu"],
            "timeNs": value["time"],
            "mark": f"{conversation(value):#x}",
            "source": value["src_endpoint"],
            "dstID": value["dst_endpoint"],
            "srcLabel": value["src_identity"],
            "dstLabel": value["dst_identity"],
            "srcPod": _pod(names, value["src_party"]),
            "dstPod": _pod(names, value["dst_party"]),
            "bytes": value["length"],
            "ifindex": names.interfaces.get(value["ifindex"], "") or value["ifindex"],
            "summary": {
                "l3": {
                    "src": ip_text(value["src_hi"], value["src_lo"], value["ipv6"]),
                    "dst": ip_text(value["dst_hi"], value["dst_lo"], value["ipv6"]),
                },
                "l4": {"protocol": protocol, "number": value["protocol"], "detail": detail},
            },
        }
        if protocol in ("tcp", "udp", "sctp"):
            record["summary"]["l4"] |= {"src": value["sport"], "dst": value["dport"]}
        if kind == "drop":
            record |= {
                "reason": drop_text(value["reason"], value["ext_error"]),
                "reasonNumber": value["reason"],
                "file": source_file(value["file"]),
                "line": value["line"],
                "extError": value["ext_error"],
            }
        elif kind == "trace":
            record |= {
                "observationPoint": POINTS.get(value["sub_type"], str(value["sub_type"])),
                "state": STATES.get(value["trace_reason"], "unknown"),
            }
        else:
            record |= {
                "direction": DIRECTIONS[value["direction"]],
                "action": ACTIONS[value["verdict"]],
                "match": MATCHES[value["match"]],
                "auth": "disabled",
            }
        if kind != "trace":
            numbers = value["egress_rules"], value["ingress_rules"]
            deciding = [policy for number in numbers for policy in names.rules[number]]
            record["policies"] = ["/".join(filter(None, policy[:3])) for policy in deciding]
            if texts := wanted(deciding):
                record["wanted"] = texts
            if logs := list(dict.fromkeys(log for policy in deciding for log in policy.logs)):
                record["policyLog"] = logs
        yield record


def conversation(value: Mapping[str, Any]) -> int:
    """Return 32 bits that both directions of a flow have in common: to find its lines among others."""
    ported = value["protocol"] in (6, 17, 132)
    ends = sorted(
        (value[f"{side}_hi"], value[f"{side}_lo"], value[port] if ported else 0)
        for side, port in (("src", "sport"), ("dst", "dport"))
    )
    return crc32(repr((value["protocol"], ends)).encode())


def _pod(names: Names, number: int) -> str:
    party = names.parties[number]
    return f"{party.namespace}/{party.pod}" if party.pod else ""
