# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy policy get`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ciliumpy.cli.options import Lab, Namespace, Node, Output
from ciliumpy.cli.output import Item, description, finish, parse_format, show
from ciliumpy.cli.policy.list import full_name, manifests
from ciliumpy.cli.query import gather, listing
from ciliumpy.cli.selectors import selector_lines
from ciliumpy.client import target
from ciliumpy.kit.errors import CiliumpyError

PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}

Name = Annotated[str, typer.Argument(metavar="[NAMESPACE/]NAME", help="Without namespace: a cluster-wide one.")]


def run(name: Name, namespace: Namespace = None, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Show a policy as the agents have understood it: each rule with its subject, peers and ports.

    -o yaml prints the object as it was written, as one agent has it in force: `policy import -` takes it.
    """
    where, slash, own = name.rpartition("/")
    path = f"/v1/policies/{where if slash else namespace or '-'}/{own}"
    targets = target.select(lab, node)
    try:
        items, errors = gather(targets, lambda client: client.get(path)["items"])
    except CiliumpyError as error:
        if slash or namespace or not (near := elsewhere(targets, own)):
            raise
        raise CiliumpyError(error.message, f"did you mean {' or '.join(near)}?", error.exit_code) from None
    if output == "yaml":
        keys = {(item["kind"], item["namespace"], item["name"]) for item in items}
        manifests(targets, keys.__contains__)
    elif parse_format(output).kind in ("text", "wide"):
        typer.echo("\n".join(text(same) for same in together(items)), nl=False)
        finish(errors)
    else:
        show("PolicyList", items, [], output, name=full_name, sort=full_name, errors=errors)


def elsewhere(targets: Sequence[target.Target], name: str) -> list[str]:
    """Return the policies of that name in any namespace, sorted."""
    items, _ = listing(targets, "/v1/policies")
    return sorted({full_name(item) for item in items if item["namespace"] and item["name"] == name})


def together(items: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group what several agents say of one policy: only the endpoints differ."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        same = {key: value for key, value in item.items() if key not in ("node", "endpoints")}
        groups.setdefault(repr(same), []).append(item)
    return list(groups.values())


def text(same: list[dict[str, Any]]) -> str:
    policy = same[0]
    selected = [f"{item['node']}:{number}" for item in same for number in item["endpoints"]]
    out = description(
        [
            ("Policy", full_name(policy)),
            ("Kind", policy["kind"]),
            ("Status", ": ".join(filter(None, (policy["state"], policy["message"])))),
            ("Origin", policy["origin"]),
            ("Notices", policy["notices"] or "none"),
            ("Endpoints", " ".join(selected) or "none"),
        ]
    )
    return out + "".join("\n" + rule(each) for each in policy["rules"])


def rule(each: Item) -> str:
    peers = "everybody" if each["peers"] is None else selector_lines(each["peers"]) or "nobody"
    return description(
        [
            (each["path"], f"{each['verdict']} {each['direction']}"),
            *([] if each["tier"] == "normal" else [("  tier", f"{each['tier']}, priority {each['priority']:g}")]),
            ("  subject", selector_lines([each["subject"]])),
            ("  from" if each["direction"] == "ingress" else "  to", peers),
            ("  ports", "ALL" if each["ports"] is None else [port(p) for p in each["ports"]] or "none"),
            *([] if each["defaultDeny"] else [("  default deny", "off")]),
        ]
    )


def port(each: Item) -> str:
    protocol = PROTOCOLS.get(each["protocol"], str(each["protocol"]))
    if "name" in each:
        return f"{each['name']}/{protocol}"
    if (each["first"], each["last"]) == (0, 65535):
        return f"ANY/{protocol}"
    span = str(each["first"]) if each["first"] == each["last"] else f"{each['first']}-{each['last']}"
    return f"{span}/{protocol}"
