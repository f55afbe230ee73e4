# SPDX-License-Identifier: Apache-2.0
"""Monitor records as `cilium-dbg monitor` prints them. Standard library only: the command has to start fast.

There is no packet in an event, so no hash of it either: `flow 0x0`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.identity import Reserved

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TYPES = {1: "drop", 4: "trace", 5: "policy-verdict"}
NEVER_SENT = ("agent", "capture", "debug", "l7", "recorder", "trace-sock")  # known words, not yet made by our datapath
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
    packet = packet_text(record["summary"])
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


def packet_text(summary: Mapping[str, Any]) -> str:
    """Return `10.0.0.1:4000 -> 10.0.0.2:80 tcp SYN`."""
    l3, l4 = summary["l3"], summary["l4"]
    ends = []
    for side in ("src", "dst"):
        address = f"[{l3[side]}]" if ":" in l3[side] and side in l4 else l3[side]
        ends.append(f"{address}:{l4[side]}" if side in l4 else address)
    words = f"{l4['protocol']} {l4['detail']}" if "src" in l4 else l4["detail"]
    return f"{' -> '.join(ends)} {words}".rstrip()
