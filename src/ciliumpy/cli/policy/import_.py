# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy policy import`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import parse_format
from ciliumpy.cli.policy.through import full_key, print_changes, seconds, through_any, wait_and_tell
from ciliumpy.cli.terminal import printable
from ciliumpy.client import target
from ciliumpy.client.admin import RefusedError
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from ciliumpy.store.given import Given

Sources = Annotated[list[str], typer.Argument(metavar="FILE|DIR|-...", help="Manifests; `-` is standard input.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until all agents have it in force.")]
Timeout = Annotated[str, typer.Option("--timeout", metavar="TIME", help="How long to wait at most.")]


def run(
    sources: Sources,
    wait: Wait = True,
    timeout: Timeout = "60s",
    lab: Lab = None,
    node: Node = None,
    output: Output = "text",
) -> None:
    """Put policies into the store, through any agent: all of the manifests, or nothing if one has a fault.

    Takes CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, NetworkPolicy, ClusterNetworkPolicy and CiliumCIDRGroup.
    An object that is there is replaced, but for one that stands in a file which somebody put into the store: such a
    file is never rewritten. Exit code 1 if something is refused, or is not in force in time.
    """
    from ciliumpy.model.errors import path_text
    from ciliumpy.store.given import given
    from ciliumpy.store.texts import texts

    parse_format(output)
    timeout_s = seconds(timeout)
    targets = target.select(lab, node)
    found = given(texts(sources))
    if found.faults:
        raise refused(found.faults)
    if not found.objects:
        raise CiliumpyError("there are no objects in " + ", ".join(sources))
    documents = [each.document.value for each in found.objects]
    try:
        items = through_any(targets, lambda client: client.post("/v1/objects", {"items": documents}))["items"]
    except RefusedError as error:
        raise refused([text for _, text in sorted(place(found, fault) for fault in error.faults)]) from None
    print_changes(items, output)
    for each, item in zip(found.objects, items, strict=True):
        for notice in item["notices"]:
            path = tuple(notice["path"])
            line = each.document.position(path)[0]
            said = f"{each.file}:{line}: {full_key(item)}: {path_text(path)}: {notice['message']}"
            sys.stderr.write(printable(said) + "\n")
    policies = [item for item in items if item["kind"].endswith("NetworkPolicy")]
    wanted = [{key: item[key] for key in ("kind", "namespace", "name", "version")} for item in policies]
    if wait and not wait_and_tell(lambda: target.select(lab), wanted, timeout_s):
        raise typer.Exit(1)


def refused(faults: list[str], hint: str = "correct the manifests") -> CiliumpyError:
    """Return the error that names every fault."""
    return CiliumpyError("refused, nothing was changed:\n  " + "\n  ".join(faults), hint)


def place(found: Given, fault: dict[str, object]) -> tuple[tuple[str, int], str]:
    """Return file and line, and `file:line: field: message`, of a fault that an agent found."""
    from ciliumpy.model.errors import path_text

    each = found.objects[int(str(fault["index"]))]
    path = tuple(fault["path"]) if isinstance(fault["path"], list) else ()
    line = each.document.position(path)[0] if path else each.document.line
    field = path_text(path) or str(each.key)
    return (each.file, line), f"{each.file}:{line}: {field}: {fault['message']}"
