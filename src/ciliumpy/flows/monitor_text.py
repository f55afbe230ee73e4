# SPDX-License-Identifier: Apache-2.0
"""Monitor records as `cilium-dbg monitor` prints them. Standard library only: the command has to start fast.

There is no packet in an event, so no dissection; `flow` is a hash of addresses and ports, one for both directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.identity import Reserved

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TYPES = {1: "drop", 4: "trace", 5: "policy-verdict"}
NEVER_SENT = ("agent", "capture", "debug", "l7", "recorder", "trace-sock")  # known words, not yet made by our datapath
ENDS = (("srcPod", "srcLabel"), ("dstPod", "dstLabel"))
RESERVED = {int(identity): identity.label for identity in Reserved}


def check_types(types: Collection[str]) -> None:
    """CiliumpyError for a word that is no type of event."""
    known = (*TYPES.values(), *NEVER_SENT)
    for word in types:
        if word not in known:
            raise CiliumpyError(f"there is no event type {word!r}", f"one of {', '.join(sorted(known))}", exit_code=2)


def line(record: Mapping[str, Any], *, numeric: bool = False) -> str:
    """Return the text of a record, without line end. `numeric`: identities as numbers."""
    if record["type"] == "lost":
        return f"CPU {record['cpu']:02d}: Lost {record['lost']} events"

    def identity(name: str) -> str:
        number = record[name]
        return str(number) if numeric else RESERVED.get(number, str(number))

    identities = f"identity {identity('srcLabel')}->{identity('dstLabel')}"
    packet = "; ".join((packet_text(record["summary"]), *record.get("wanted", ())))
    mark = record["mark"]
    if record["type"] == "drop":
        return (
            f"xx drop ({record['reason']}) flow {mark} to endpoint {record['dstID']}, ifindex {record['ifindex']}, "
            f"file {record['file']}:{record['line']}, , {identities}: {packet}"
        )
    if record["type"] == "trace":
        where = record["observationPoint"].removeprefix("to-")
        head = f"-> endpoint {record['dstID']}" if where == "endpoint" else f"-> {where}"
        origin = "::" if ":" in record["summary"]["l3"]["src"] else "0.0.0.0"  # noqa: S104 - an address that is none
        return (
            f"{head} flow {mark} , {identities} state {record['state']} ifindex {record['ifindex']} "
            f"orig-ip {origin}: {packet}"
        )
    local, remote = ("dstID", "srcLabel") if record["direction"] == "ingress" else ("source", "dstLabel")
    return (
        f"Policy verdict log: flow {mark} local EP ID {record[local]}, remote ID {identity(remote)}, "
        f"proto {record['summary']['l4']['number']}, {record['direction']}, action {record['action']}, "
        f"auth: {record['auth']}, match {record['match']}, {packet}"
    )


def lines(record: Mapping[str, Any], *, numeric: bool = False, verbose: int = 0) -> str:
    """Return the text of a record: one line, or with `verbose` 1 what is known of the packet, with 2 also names."""
    if not verbose or record["type"] == "lost":
        return line(record, numeric=numeric)
    what = {"drop": "reason", "trace": "observationPoint"}.get(record["type"])
    kind = record[what] if what else f"{record['type']} {record['direction']} {record['action']} {record['match']}"
    state = f", state {record['state']}" if "state" in record else ""
    file = f", file {record['file']}:{record['line']}" if "file" in record else ""
    l3, l4 = record["summary"]["l3"], record["summary"]["l4"]
    ports = f"SrcPort={l4['src']} DstPort={l4['dst']} " if "src" in l4 else ""
    head = (
        f"CPU {record['cpu']:02d}: MARK {record['mark']} FROM {record['source']} {kind}: {record['bytes']} bytes"
        f"{state}, interface {record['ifindex']}{file}, identity {record['srcLabel']}->{record['dstLabel']}, "
        f"to endpoint {record['dstID']}"
    )
    text = [
        "-" * 78,
        head,
        f"{'IPv6' if ':' in l3['src'] else 'IPv4'} {{SrcIP={l3['src']} DstIP={l3['dst']} Protocol={l4['number']}}}",
        f"{l4['protocol'].upper()} {{{(ports + l4['detail']).strip()}}}",
    ]
    if verbose > 1:
        names = (record.get(key) or RESERVED.get(record[number], "?") for key, number in ENDS)
        text.append(f"Names {{{' -> '.join(names)}}}")
        if record.get("policies"):
            text.append(f"Policies {{{', '.join(record['policies'])}}}")
        if record.get("wanted"):
            text.append(f"Wanted {{{', '.join(record['wanted'])}}}")
        if record.get("policyLog"):
            text.append(f"Log {{{', '.join(record['policyLog'])}}}")
    return "\n".join(text)


def packet_text(summary: Mapping[str, Any]) -> str:
    """Return `10.0.0.1:4000 -> 10.0.0.2:80 tcp SYN`."""
    l3, l4 = summary["l3"], summary["l4"]
    ends = []
    for side in ("src", "dst"):
        address = f"[{l3[side]}]" if ":" in l3[side] and side in l4 else l3[side]
        ends.append(f"{address}:{l4[side]}" if side in l4 else address)
    words = f"{l4['protocol']} {l4['detail']}" if "src" in l4 else l4["detail"]
    return f"{' -> '.join(ends)} {words}".rstrip()
