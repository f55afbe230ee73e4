# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf policy list`."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

import typer

from ciliumpy.cli.bpf.endpoint_id import on_node
from ciliumpy.cli.bpf.every import every
from ciliumpy.cli.bpf.policy_rows import RULE, read
from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, Item, parse_format, show
from ciliumpy.cli.selectors import selector_lines
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.policy_kinds import SHORT

SET = re.compile(r"(?:(?P<node>[^:]+):)?set:(?P<number>[0-9]+)")

COLUMNS = [
    Column("ENDPOINT", lambda r: ",".join(str(number) for number in r["endpoints"]) or "-"),
    Column("POLICY", lambda r: r["verdict"].capitalize()),
    Column("DIRECTION", lambda r: r["direction"].capitalize()),
    Column("LABELS (source:key[=value])", lambda r: selector_lines(r["peers"], brief=True), narrow=True),
    Column("LABELS (source:key[=value])", lambda r: selector_lines(r["peers"]), wide=True),
    Column("PORT/PROTO", lambda r: r["port"].split(",")),
    Column("PROXY PORT", lambda r: r["proxyPort"] or "NONE"),
    Column("PACKETS", lambda r: "-" if r["packets"] is None else r["packets"], right=True),
    Column("BYTES", lambda r: "-" if r["bytes"] is None else r["bytes"], right=True),
    Column("FROM", lambda r: list(dict.fromkeys(policy(rule) for rule in r["rules"])) or "-", narrow=True),
    Column("FROM", lambda r: r["rules"] or "-", wide=True),
    Column("SET", lambda r: r["set"], wide=True, right=True),
    Column("CLASS", lambda r: r["class"], wide=True, right=True),
    Column("LEVEL", lambda r: r["level"], wide=True, right=True),
]

Which = Annotated[
    str | None,
    typer.Argument(
        metavar="[ENDPOINT|SET]", help="Only what this endpoint is judged by, 4, n1:4, shop/api, host; or set:12."
    ),
]


class Wanted(NamedTuple):
    """What is asked for, on `node` (None: on all that are asked)."""

    node: str | None
    endpoint: int | None = None
    set: int | None = None

    def has(self, row: Item) -> bool:
        if self.set is not None:
            return bool(row["set"] == self.set)
        return self.endpoint is None or self.endpoint in row["endpoints"]


def run(which: Which = None, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List what each endpoint's policy set allows and denies. Reads the kernel, not the agent.

    Of the rows of one endpoint, direction and port the first that meets the peer decides; where none does, the packet
    is dropped: `default deny`. The narrowest port that covers the packet is looked at, and no other. Selectors and the
    policies that rows come from are named by the agent; without it there are numbers.

    PACKETS and BYTES are those of the flows' original direction that a row has decided since its rules are what they
    are, also before the agent was started anew; `-`: not counted. -o wide adds the rule in the policy, its class and
    level, the set, and the labels that all pods of a cluster have.
    """
    wanted = parse(which, lab, node)
    items, errors = every(lab, wanted.node, read)
    found = [item for item in items if wanted.has(item)]
    if which and not found and not errors:  # no rows would read as no policy
        if wanted.set is not None:
            raise CiliumpyError(f"the datapath has no policy set {wanted.set}", "`ciliumpy bpf policy list -o wide`")
        raise CiliumpyError(
            f"the datapath has no policy of endpoint {which}", "`ciliumpy bpf endpoint list` shows them"
        )
    all_columns = parse_format(output).kind == "wide" or any(item["proxyPort"] for item in found)
    show(
        "BPFPolicyList",
        found,
        [column for column in COLUMNS if all_columns or column.title != "PROXY PORT"],
        output,
        name=name,
        sort=lambda r: (r["endpoints"] or [1 << 32], r["set"], r["direction"]),  # within, as they are looked at
        errors=errors,
        empty="Policy is empty: no endpoint has a set.",
    )


def parse(which: str | None, lab: str | None, node: str | None) -> Wanted:
    """Return what is meant by a set, by an endpoint's number, or by what the agents know an endpoint as."""
    if which is None:
        return Wanted(node)
    if said := SET.fullmatch(which):
        place = said["node"]
        if None not in (place, node) and place != node:
            raise CiliumpyError(f"{which!r} is not on node {node!r}", "leave out --node", 2)
        return Wanted(node or place, set=int(said["number"]))
    if "/" in which or which.rpartition(":")[2] == "host":
        from ciliumpy.cli.endpoint.get import find

        home, found = find(which, lab, node, "get")
        return Wanted(home.node, endpoint=found["id"])
    place, number = on_node(which, node)
    return Wanted(place, endpoint=number)


def name(row: Item) -> str:
    last = f"{row['port']}/{row['level']}" if row["decidedBy"] == RULE else row["decidedBy"]
    return f"{row['set']}/{row['direction']}/{last}"


def policy(rule: str) -> str:
    """Return `cnp shop/api` for `CiliumNetworkPolicy/shop/api#spec.ingress[0]`."""
    kind, _, named = rule.partition("#")[0].partition("/")
    return f"{SHORT.get(kind, kind)} {named}"
