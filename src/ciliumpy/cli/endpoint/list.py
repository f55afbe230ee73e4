# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy endpoint list`."""

from __future__ import annotations

from collections.abc import Iterable

from ciliumpy.cli.options import Lab, Labels, Namespace, Node, Output
from ciliumpy.cli.output import Column, Item, show
from ciliumpy.cli.query import listing
from ciliumpy.client import target

COMMON = ("k8s:io.cilium.k8s.policy.", "k8s:io.cilium.k8s.namespace.labels.")

COLUMNS = [
    Column("ENDPOINT", lambda e: e["id"]),
    Column("POLICY\nINGRESS", lambda e: e["policy"]["ingress"].title(), narrow=True),
    Column("POLICY\nEGRESS", lambda e: e["policy"]["egress"].title(), narrow=True),
    Column("POLICY (ingress)\nENFORCEMENT", lambda e: e["policy"]["ingress"].title(), wide=True),
    Column("POLICY (egress)\nENFORCEMENT", lambda e: e["policy"]["egress"].title(), wide=True),
    Column("IDENTITY", lambda e: e["identity"] or "<none>"),
    Column("LABELS (source:key[=value])", lambda e: short(e["labels"]), narrow=True),
    Column("LABELS (source:key[=value])", lambda e: e["labels"], wide=True),
    Column("IP ADDRESS", lambda e: [address for address in (e["ipv4"], e["ipv6"]) if address], narrow=True),
    Column("IPv6", lambda e: e["ipv6"], wide=True),
    Column("IPv4", lambda e: e["ipv4"], wide=True),
    Column("STATUS", lambda e: e["state"]),
    Column("POD", lambda e: f"{e['namespace']}/{e['pod']}" if e["pod"] else "", wide=True),
    Column("SET", lambda e: e["policySet"], wide=True),
    Column("INTERFACE", lambda e: e["hostInterface"], wide=True),
    Column("MAC", lambda e: e["mac"], wide=True),
    Column("CONTAINER", lambda e: e["containerID"][:12], wide=True),
    Column("ERROR", lambda e: e["error"], wide=True),
]


def run(
    namespace: Namespace = None,
    labels: Labels = [],  # noqa: B006 - typer copies it
    lab: Lab = None,
    node: Node = None,
    output: Output = "text",
) -> None:
    """List the pods that the agents have plugged in, with their identity and whether policy is enforced.

    The node itself is one of them, reserved:host, where policies for nodes are in force (policy.hostFirewall).

    With -o wide also the labels that every pod has, the pod's name, its policy set, interface and container.
    """
    items, errors = listing(target.select(lab, node), "/v1/endpoints")
    show(
        "EndpointList",
        [e for e in items if namespace in (None, e["namespace"]) and all(has(e, label) for label in labels)],
        COLUMNS,
        output,
        name=lambda e: str(e["id"]),
        sort=lambda e: e["id"],
        errors=errors,
        empty="No endpoints found.",
    )


def short(labels: Iterable[str]) -> list[str]:
    """Return labels without those that say nothing of one pod: its cluster, account, and its namespace's own labels."""
    return [label for label in labels if not label.startswith(COMMON)]


def has(endpoint: Item, label: str) -> bool:
    """Whether an endpoint has a label, given as `source:key=value`, `key=value` or `key`."""
    for own in endpoint["labels"]:
        short = own.partition(":")[2]
        if label in (own, short, own.partition("=")[0], short.partition("=")[0]):
            return True
    return False
