# SPDX-License-Identifier: Apache-2.0
"""The rows of policy sets as the kernel's maps have them, with what each has counted and the rules it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.cli.bpf.endpoint_list import EGRESS, INGRESS
from ciliumpy.cli.bpf.endpoint_list import read as read_endpoints
from ciliumpy.cli.bpf.every import maps_of
from ciliumpy.client.admin import AdminClient
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from ciliumpy.cli.output import Item
    from ciliumpy.client.target import Target

DIRECTIONS = ("ingress", "egress")
VERDICTS = {1: "deny", 2: "allow", 3: "redirect", 4: "pass"}  # enum level_verdict of layout.h
EVERYBODY = 1  # level.flags
PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
ANY = "ANY"
NOBODY = 0  # the class of ports that no level is for
RULE, DEFAULT, NOT_ENFORCED = "rule", "default", "not-enforced"  # what decides in a row
DENIED_ANYWAY = f"{ANY} (default deny)"
NOT_COUNTED: dict[str, Any] = {"packets": None, "bytes": None, "stat": 0}


class Port(NamedTuple):
    """Where a class stands: ports `first` to `last` of a protocol; protocol 0 is what no other row covers."""

    direction: int
    protocol: int
    first: int
    last: int
    class_id: int


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
                told = level("allow", [f"{ANY} (not enforced)"], by=NOT_ENFORCED)
                found.append(base | {"endpoints": opened} | told | NOT_COUNTED)
            if closed or not own:
                every_port = [p for p in [*ports.get(number, []), *defaults] if p.direction == direction]
                of_class: dict[int, list[Port]] = {}
                for one in sorted(every_port, key=lambda p: (not p.protocol, p)):
                    of_class.setdefault(one.class_id, []).append(one)
                default = defaults[direction].class_id
                of_class.pop(NOBODY, None)
                for alike in of_class.values():
                    texts = ",".join(port_text(each_port) for each_port in alike)
                    for each in levels(alike[0], classes, names):
                        place = int(row["denied_stat"][direction]) if each["stat"] is None else each["stat"]
                        more = counted.get(place, NOT_COUNTED) | {"stat": place}
                        of = rules.get((each["class"], each["level"]), [])
                        found.append(base | {"endpoints": closed} | each | more | {"port": texts, "rules": of})
                place = int(row["denied_stat"][direction])
                if not (of_class and all(decides_of_all(classes.get(number)) for number in (*of_class, default))):
                    rest = level("deny", [DENIED_ANYWAY], by=DEFAULT) | counted.get(place, NOT_COUNTED)
                    found.append(base | {"endpoints": closed} | rest | {"stat": place})
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
        return [level("deny", [f"{ANY} (class is missing)"], port, by=DEFAULT)]
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


def decides_of_all(row: np.void | None) -> bool:
    """Whether a class has a level for everybody that is no pass: none that looks there is denied by default."""
    final = ("deny", "allow", "redirect")
    return row is not None and any(
        VERDICTS.get(int(each["verdict"])) in final and int(each["flags"]) & EVERYBODY for each in row["level"]
    )


def level(
    verdict: str, who: list[str], port: Port | None = None, number: int = 0, proxy: int = 0, by: str = RULE
) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "decidedBy": by,
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
