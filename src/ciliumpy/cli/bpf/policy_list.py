# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf policy list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ciliumpy.cli.bpf.endpoint_id import on_node
from ciliumpy.cli.bpf.endpoint_list import EGRESS, INGRESS
from ciliumpy.cli.bpf.endpoint_list import read as read_endpoints
from ciliumpy.cli.bpf.every import every, maps_of
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, Item, show
from ciliumpy.cli.selectors import selector_lines
from ciliumpy.client.admin import AdminClient
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from ciliumpy.client.target import Target

DIRECTIONS = ("ingress", "egress")
VERDICTS = {1: "deny", 2: "allow", 3: "redirect", 4: "pass"}  # enum level_verdict of layout.h
EVERYBODY = 1  # level.flags
PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
ANY = "ANY"
NOBODY = 0  # the class of ports that no level is for
NO_LEVEL = f"{ANY} (no row)"  # whom none of a direction's rows meets
NOT_COUNTED: dict[str, Any] = {"packets": None, "bytes": None, "stat": 0}


COLUMNS = [
    Column("ENDPOINT", lambda r: ",".join(str(number) for number in r["endpoints"]) or "-"),
    Column("POLICY", lambda r: r["verdict"].capitalize()),
    Column("DIRECTION", lambda r: r["direction"].capitalize()),
    Column("LABELS (source:key[=value])", lambda r: selector_lines(r["peers"])),
    Column("PORT/PROTO", lambda r: r["port"].split(",")),
    Column("PROXY PORT", lambda r: r["proxyPort"] or "NONE", wide=True),
    Column("BYTES", lambda r: "-" if r["bytes"] is None else r["bytes"], right=True, wide=True),
    Column("PACKETS", lambda r: "-" if r["packets"] is None else r["packets"], right=True, wide=True),
    Column("POLICY RULE", lambda r: r["rules"] or "-", wide=True),
    Column("SET", lambda r: r["set"], wide=True, right=True),
    Column("CLASS", lambda r: r["class"], wide=True, right=True),
    Column("LEVEL", lambda r: r["level"], wide=True, right=True),
]

Which = Annotated[
    str | None, typer.Argument(metavar="[[NODE:]ID]", help="Only what this endpoint is judged by: 4, n1:4.")
]


class Port(NamedTuple):
    """Where a class stands: ports `first` to `last` of a protocol; protocol 0 is what no other row covers."""

    direction: int
    protocol: int
    first: int
    last: int
    class_id: int


def run(which: Which = None, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List what each endpoint's policy set allows and denies. Reads the kernel, not the agent.

    Of the rows of one endpoint, direction and port the first that meets the peer decides; where none does, the packet
    is dropped. The narrowest port that covers the packet is looked at, and no other. Selectors are named by the agent;
    without it they are numbers. With -o wide: packets and bytes of the flows' original direction that a row has decided
    since its rules are what they are (`-`: not counted), and which rules these are.
    """
    place, number = on_node(which, node)
    items, errors = every(lab, place, read)
    found = [item for item in items if number is None or number in item["endpoints"]]
    if output == "text":
        found = [item for item in found if item["peers"] != [NO_LEVEL]]
    if which and not found and not errors:  # no rows would read as no policy
        raise CiliumpyError(
            f"the datapath has no policy of endpoint {which}", "`ciliumpy bpf endpoint list` shows them"
        )
    show(
        "BPFPolicyList",
        found,
        COLUMNS,
        output,
        name=lambda r: f"{r['set']}/{r['direction']}/{r['port']}/{r['level']}",
        sort=lambda r: (r["endpoints"] or [1 << 32], r["set"], r["direction"]),  # within, as they are looked at
        errors=errors,
        empty="Policy is empty: no endpoint has a set.",
    )


def read(target: Target) -> list[dict[str, Any]]:
    """Return the levels of all sets, each with its set's endpoints; and of an endpoint what is not enforced."""
    from ciliumpy.bpf.maps import Map
    from ciliumpy.bpf.names import width_in_use

    folder = maps_of(target)
    names = selectors(target)
    classes = dict(_rows(folder / width_in_use(folder).classes))
    rules, counted = origins(target), counts(folder)
    found: list[dict[str, Any]] = []
    ports: dict[int, list[Port]] = {}
    with Map.open_pinned(folder / "cp_port_v1") as exact:
        for key, value in zip(*exact.items(), strict=True):
            number = int(key["port"])
            port = Port(int(key["direction"]), int(key["protocol"]), number, number, int(value))
            ports.setdefault(int(key["set"]), []).append(port)
    with Map.open_pinned(folder / "cp_range_v1") as ranges:
        for key, value in zip(*ranges.items(), strict=True):
            for each in value["range"][: int(value["count"])]:
                port = Port(int(key["direction"]), int(key["protocol"]), *(int(part) for part in each))
                ports.setdefault(int(key["set"]), []).append(port)
    users: dict[int, list[Item]] = {}
    for endpoint in read_endpoints(target):
        users.setdefault(endpoint["policySet"], []).append(endpoint)
    for number, row in _rows(folder / "cp_set_v2"):
        defaults = [Port(way, 0, 0, 0xFFFF, int(row["default_class"][way])) for way in (0, 1)]
        for direction, enforced in ((0, INGRESS), (1, EGRESS)):
            own = users.get(number, [])
            base = {"set": number, "direction": DIRECTIONS[direction]}
            closed = [e["id"] for e in own if e["rawFlags"] & enforced]
            if opened := [e["id"] for e in own if not e["rawFlags"] & enforced]:
                found.append(base | {"endpoints": opened} | level("allow", [f"{ANY} (not enforced)"]) | NOT_COUNTED)
            if closed or not own:
                every_port = [p for p in [*ports.get(number, []), *defaults] if p.direction == direction]
                of_class: dict[int, list[Port]] = {}
                for one in sorted(every_port, key=lambda p: (not p.protocol, p)):
                    of_class.setdefault(one.class_id, []).append(one)
                for alike in of_class.values():
                    texts = ",".join(port_text(each_port) for each_port in alike)
                    for each in levels(alike[0], classes, names):
                        place = int(row["denied_stat"][direction]) if each["stat"] is None else each["stat"]
                        more = counted.get(place, NOT_COUNTED) | {"stat": place}
                        of = rules.get((each["class"], each["level"]), [])
                        found.append(base | {"endpoints": closed} | each | more | {"port": texts, "rules": of})
                place = int(row["denied_stat"][direction])
                if NOBODY not in of_class and place:
                    rest = level("deny", [NO_LEVEL]) | counted.get(place, NOT_COUNTED) | {"stat": place}
                    found.append(base | {"endpoints": closed} | rest)
    return found


def counts(folder: Path) -> dict[int, dict[str, Any]]:
    """Return packets and bytes by the place where a level counts, since it has been this rule's."""
    from ciliumpy.bpf.maps import Map
    from ciliumpy.bpf.rulestats import BASES, COUNTERS, STATS, totals

    if not (folder / STATS).exists():
        return {}
    with (
        Map.open_pinned(folder / STATS) as stats,
        Map.open_pinned(folder / COUNTERS) as counters,
        Map.open_pinned(folder / BASES) as bases,
    ):
        sums = totals(stats, counters)
        keys, values = bases.items()
    for column, name in enumerate(("packets", "bytes")):
        sums[keys, column] -= values[name]
    return {
        place: {"packets": packets, "bytes": octets} for place, (packets, octets) in enumerate(sums.tolist()) if place
    }


def origins(target: Target) -> dict[tuple[int, int], list[str]]:
    """Ask the agent for the rules of each (class, level), `Kind/namespace/name#path`; nothing if it does not answer."""
    try:
        rows = AdminClient.of(target).get("/v1/statedb/policy-sets")["items"]
    except CiliumpyError:
        return {}
    return {
        (one["id"], number): sorted({rule for _, rule in level["rules"]})
        for item in rows
        for one in item["row"]["classes"]
        for number, level in enumerate(one["levels"])
    }


def levels(port: Port, classes: dict[int, np.void], names: dict[int, str]) -> list[dict[str, Any]]:
    """Return the levels of a port's class in the order in which they decide."""
    row = classes.get(port.class_id)
    if row is None:
        why = "class is missing" if port.class_id else "default"
        return [level("deny", [f"{ANY} ({why})"], port)]
    found = []
    for number, each in enumerate(row["level"]):
        verdict = int(each["verdict"])
        if not verdict:
            break
        who = [ANY] if int(each["flags"]) & EVERYBODY else sorted(names.get(b, f"selector {b}") for b in bits(each))
        said = VERDICTS.get(verdict, str(verdict))
        proxy = int(each["proxy_port"]) if said == "redirect" else 0
        found.append(level(said, who, port, number, proxy) | {"stat": int(each["stat"])})
    return found


def level(verdict: str, who: list[str], port: Port | None = None, number: int = 0, proxy: int = 0) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "peers": who,
        "port": port_text(port) if port else ANY,
        "proxyPort": proxy,
        "class": port.class_id if port else 0,
        "level": number,
        "stat": None,
        "rules": [],
    }


def port_text(port: Port) -> str:
    if not port.protocol:
        return ANY
    protocol = PROTOCOLS.get(port.protocol, str(port.protocol))
    if (port.first, port.last) == (0, 0xFFFF):
        return f"{ANY}/{protocol}"
    return f"{port.first}/{protocol}" if port.first == port.last else f"{port.first}-{port.last}/{protocol}"


def bits(row: np.void) -> list[int]:
    """Return the numbers of a mask's bits."""
    mask = int.from_bytes(row["mask"].tobytes(), "little")
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


def selectors(target: Target) -> dict[int, str]:
    """Ask the agent for the selectors' names; nothing if it does not answer."""
    try:
        rows = AdminClient.of(target).get("/v1/statedb/selector-bits")["items"]
    except CiliumpyError:
        return {}
    return {item["row"]["bit"]: item["row"]["selector"] for item in rows}


def _rows(path: Path) -> list[tuple[int, np.void]]:
    """Return the rows of a map whose key is a number, sorted by it."""
    from ciliumpy.bpf.maps import Map

    with Map.open_pinned(path) as opened:
        keys, values = opened.items()
    return sorted(((int(key), value) for key, value in zip(keys, values, strict=True)), key=lambda row: row[0])
