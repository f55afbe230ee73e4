# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy policy get`."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, Any

import typer

from ciliumpy.cli.options import Lab, Namespace, Node, Output
from ciliumpy.cli.output import Item, description, finish, parse_format, show
from ciliumpy.cli.policy.list import manifests
from ciliumpy.cli.policy.naming import full_name, typed_name
from ciliumpy.cli.query import gather, listing
from ciliumpy.cli.selectors import selector_lines
from ciliumpy.client import target
from ciliumpy.kit.errors import CiliumpyError

PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}

Name = Annotated[
    str,
    typer.Argument(
        metavar="[KIND/][NAMESPACE/]NAME", help="E.g. shop/api, cnp/shop/api; without namespace: cluster-wide."
    ),
]


def run(name: Name, namespace: Namespace = None, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Show a policy as the agents have understood it: each rule with its subject, peers and ports.

    -o yaml prints the object as it was written, as one agent has it in force: `policy import -` takes it.
    """
    kind, name = kind_of(name)
    where, slash, own = name.rpartition("/")
    path = f"/v1/policies/{where if slash else namespace or '-'}/{own}"
    targets = target.select(lab, node)
    try:
        items, errors = gather(targets, lambda client: of_kind(client.get(path)["items"], kind, name))
    except CiliumpyError as error:
        if not (near := like(targets, f"{where or namespace or ''}/{own}".lstrip("/"))):
            raise
        raise CiliumpyError(error.message, f"did you mean {' or '.join(near)}?", error.exit_code) from None
    if output == "yaml":
        keys = {(item["kind"], item["namespace"], item["name"]) for item in items}
        manifests(targets, keys.__contains__)
    elif parse_format(output).kind in ("text", "wide"):
        typer.echo("\n".join(text(same) for same in together(items)), nl=False)
        finish(errors)
    else:
        show("PolicyList", items, [], output, name=typed_name, alone=True, sort=full_name, errors=errors)


def kind_of(name: str) -> tuple[str, str]:
    """Return the kind that a name begins with, empty if with none, and the rest. CiliumpyError (2): no such kind.

    A single word before the slash is a kind where it can be one, as in `policy delete`; else it is a namespace.
    """
    from ciliumpy.store.kind_words import kind_of_word

    word, slash, rest = name.partition("/")
    if not all(name.split("/")) or name.count("/") > 2:
        raise CiliumpyError(f"{name!r} names no policy", "as shop/api, cnp/shop/api or ccnp/all", 2)
    try:
        return (kind_of_word(word), rest) if slash else ("", name)
    except CiliumpyError:
        if "/" in rest:
            raise
        return "", name


def of_kind(items: list[dict[str, Any]], kind: str, name: str) -> list[dict[str, Any]]:
    """Return those of a kind; CiliumpyError if there are others only."""
    found = [item for item in items if kind in ("", item["kind"])]
    if not found:
        raise CiliumpyError(f"there is no {kind} {name}", f"{name} is {typed_name(items[0])}")
    return found


def like(targets: Sequence[target.Target], name: str) -> list[str]:
    """Return the policies that may be meant: those of the same name in other namespaces, or one that is spelt alike."""
    items, _ = listing(targets, "/v1/policies")
    known = sorted({full_name(item) for item in items})
    same = [each for each in known if each.rpartition("/")[2] == name.rpartition("/")[2]]
    return [each for each in same if each != name] or get_close_matches(name, set(known) - {name}, n=1, cutoff=0.8)


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
            *[(f"  {name}", each[name]) for name in ("proxy", "log") if each.get(name)],
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
