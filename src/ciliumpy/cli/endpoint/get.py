# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy endpoint get`."""

from __future__ import annotations

from typing import Annotated

import typer

from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Item, finish, show_one
from ciliumpy.cli.query import gather
from ciliumpy.client import target
from ciliumpy.client.admin import AdminClient
from ciliumpy.client.target import Target
from ciliumpy.kit.errors import CiliumpyError

Which = Annotated[
    str, typer.Argument(metavar="ENDPOINT", help="4, n1:4, shop/api-1, ipv4:10.244.0.7, container-id:4f2a…, host")
]

HOST = ("host", "reserved:host")  # by which the node itself is called


def run(which: Which, lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """Show one endpoint: by number, by pod, by address or by container; `host` is the node itself, if it is one.

    Of a pod the beginning of its name is enough, as `shop/api`, if no other pod's name begins so.
    """
    home, found = find(which, lab, node, "get")
    detail = {"node": home.node, **AdminClient.of(home).get(f"/v1/endpoints/{found['id']}")}
    show_one("EndpointList", detail, pairs(detail), output, name=str(detail["id"]))


def find(which: str, lab: str | None, node: str | None, verb: str) -> tuple[Target, Item]:
    """Return the node of an endpoint, and what its agent lists of it. CiliumpyError: there is none, or several."""
    targets = target.select(lab, node)
    if len(targets) > 1 or node is None:
        place, colon, rest = which.partition(":")
        named = [each for each in targets if each.node == place]
        if colon and named:
            targets, which = named, rest
    items, errors = gather(targets, lambda client: client.get("/v1/endpoints")["items"])
    found = [each for each in items if means(each, which)] or [each for each in items if begins(each, which)]
    if len(found) > 1:
        names = ", ".join(f"{each['node']}:{each['id']} ({each['namespace']}/{each['pod']})" for each in found)
        hint = f"say which: ciliumpy endpoint {verb} {found[0]['node']}:{found[0]['id']}"
        raise CiliumpyError(f"{which!r} is several endpoints: {names}", hint, 2)
    if len(errors) == len(targets):
        finish(errors)
    if not found:
        missing = f" ({', '.join(error.node for error in errors)} did not answer)" if errors else ""
        raise CiliumpyError(f"there is no endpoint {which!r}{missing}", "`ciliumpy endpoint list` shows them")
    return next(each for each in targets if each.node == found[0]["node"]), found[0]


def means(endpoint: Item, which: str) -> bool:
    """Whether `which` is a name of this endpoint."""
    prefix, colon, value = which.partition(":")
    pod = f"{endpoint['namespace']}/{endpoint['pod']}"
    if not endpoint["pod"] and which in HOST:
        return True
    if not colon:
        return which in (str(endpoint["id"]), pod)
    if prefix in ("ipv4", "ipv6"):
        return bool(endpoint[prefix] == value)
    if prefix == "container-id":
        return bool(value) and endpoint["containerID"].startswith(value)
    if prefix in ("cep-name", "pod-name"):
        return value.replace(":", "/") == pod
    return prefix == "cilium-local" and value == str(endpoint["id"])


def begins(endpoint: Item, which: str) -> bool:
    """Whether `which` is a namespace and the beginning of the pod's name."""
    namespace, slash, prefix = which.partition("/")
    return bool(slash and prefix) and endpoint["namespace"] == namespace and endpoint["pod"].startswith(prefix)


def interfaces(e: Item) -> str:
    if not e["hostInterface"]:
        return "<none>"
    return f"{e['interface']}, {e['hostInterface']} (ifindex {e['datapath']['ifindex']}) on the node"


def pairs(e: Item) -> list[tuple[str, object]]:
    datapath = e["datapath"]
    return [
        ("Endpoint", f"{e['id']} on {e['node']} (generation {e['generation']})"),
        ("Pod", f"{e['namespace']}/{e['pod']}" if e["pod"] else f"<none>, it is {e['node']} itself"),
        ("Status", f"{e['state']}{': ' + e['error'] if e['error'] else ''}"),
        ("Identity", e["identity"] or "<none>"),
        ("Labels", e["labels"]),
        ("IPv4", e["ipv4"]),
        ("IPv6", e["ipv6"]),
        ("MAC", e["mac"]),
        ("Interface", interfaces(e)),
        ("Container", e["containerID"]),
        ("Policy ingress", e["policy"]["ingress"].title()),
        ("Policy egress", e["policy"]["egress"].title()),
        ("Policy set", policy_set(e["policy"])),
        ("Rules", e["policy"]["realised"]["rules"] or "none"),
        *difference(e["policy"]),
        ("Datapath", f"{datapath['state']}{': ' + datapath['error'] if datapath['error'] else ''}"),
    ]


def policy_set(policy: Item) -> list[str]:
    """Return which set is in force and, where it is another, which shall be."""
    realised, desired = policy["realised"], policy["desired"]
    lines = [f"{realised['set']} of revision {realised['revision']}" if realised["set"] else "<none>"]
    if desired["set"] and desired["set"] != realised["set"]:
        lines.append(f"wanted: {desired['set']} of revision {desired['revision']}")
    if policy["error"]:
        lines.append(f"error: {policy['error']}")
    return lines


def difference(policy: Item) -> list[tuple[str, object]]:
    """Return what is not in force as it shall be; nothing where all is."""
    if policy["state"] == "in-force" and not policy["difference"]:
        return []
    found = [f"{each['rule']}: {each['change']}" for each in policy["difference"]]
    return [("Difference", found or f"none in the rules; {policy['state']}")]
