# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy policy delete`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import parse_format
from ciliumpy.cli.policy.import_ import Timeout, refused
from ciliumpy.cli.policy.through import full_key, print_changes, seconds, through_any, wait_and_tell
from ciliumpy.client import target
from ciliumpy.client.admin import AdminClient, RefusedError
from ciliumpy.client.target import Target
from ciliumpy.kit.errors import CiliumpyError

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[[KIND/][NAMESPACE/]NAME...]", help="E.g. cnp/shop/api, ccnp/all, shop/api."),
]
File = Annotated[list[str] | None, typer.Option("--file", "-f", metavar="FILE|DIR|-", help="What is in manifests.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", metavar="NAMESPACE", help="Where a name says none.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until no agent has it in force.")]


def run(
    names: Names = None,
    file: File = None,
    namespace: Namespace = "default",
    wait: Wait = True,
    timeout: Timeout = "60s",
    lab: Lab = None,
    node: Node = None,
    output: Output = "text",
) -> None:
    """Take policies out of the store, through any agent: all that are named, or nothing if one cannot be.

    An object that stands in a file which somebody put into the store is refused, by file and line: such a file is never
    rewritten. Exit code 1 also if one that is named is not there; with -f that is well.
    """
    parse_format(output)
    timeout_s = seconds(timeout)
    if bool(names) == bool(file):
        raise CiliumpyError("say either names or -f FILE", "ciliumpy policy delete cnp/shop/api", 2)
    targets = target.select(lab, node)
    if file:
        keys, places = of_files(file)
    else:
        keys = [key_of_name(targets, name, namespace) for name in names or []]
        places = {number: "/".join(filter(None, key.values())) for number, key in enumerate(keys)}
    try:
        items = through_any(targets, lambda client: client.post("/v1/objects/delete", {"items": keys}))["items"]
    except RefusedError as error:
        faults = [f"{places[fault['index']]}: {fault['message']}" for fault in error.faults]
        raise refused(faults, "take them out of those files by hand") from None
    print_changes(items, output)
    policies = [item for item in items if item["kind"].endswith("NetworkPolicy")]
    gone = [{**{key: item[key] for key in ("kind", "namespace", "name")}, "gone": True} for item in policies]
    well = not (wait and gone) or wait_and_tell(lambda: target.select(lab), gone, timeout_s)
    if not well or (not file and any(item["change"] == "absent" for item in items)):
        raise typer.Exit(1)


def of_files(sources: Sequence[str]) -> tuple[list[dict[str, str]], dict[int, str]]:
    """Return the keys of the objects in manifests, and where each stands."""
    from ciliumpy.store.given import given
    from ciliumpy.store.texts import texts

    found = given(texts(sources))
    if found.faults:
        raise refused(found.faults)
    if not found.objects:
        raise CiliumpyError("there are no objects in " + ", ".join(sources))
    keys = [each.key._asdict() for each in found.objects]
    return keys, {n: f"{each.file}:{each.document.line}: {each.key}" for n, each in enumerate(found.objects)}


def key_of_name(targets: Sequence[Target], name: str, namespace: str) -> dict[str, str]:
    """Return which object is meant by KIND/NAMESPACE/NAME, KIND/NAME, NAMESPACE/NAME or NAME."""
    from ciliumpy.store.kind_words import kind_of_word
    from ciliumpy.store.kinds import KINDS

    parts = name.split("/")
    if not all(parts) or len(parts) > 3:
        raise CiliumpyError(f"{name!r} names no object", "as cnp/shop/api, ccnp/all or shop/api", 2)
    if len(parts) == 3:
        return _key(kind_of_word(parts[0]), parts[1], parts[2])
    if len(parts) == 2:
        try:
            kind = kind_of_word(parts[0])
        except CiliumpyError:
            return only(targets, name, lambda item: [item["namespace"], item["name"]] == parts)
        return _key(kind, namespace if KINDS[kind].namespaced else "", parts[1])
    return only(targets, name, lambda item: item["name"] == name and item["namespace"] in ("", namespace))


def only(targets: Sequence[Target], name: str, means: Any) -> dict[str, str]:
    """Return the one policy that agents know and that is meant; CiliumpyError if none or several are."""

    def known(client: AdminClient) -> list[dict[str, str]]:
        return [item for item in client.get("/v1/policies")["items"] if means(item)]

    found = {full_key(item): item for item in through_any(targets, known)}
    if len(found) > 1:
        raise CiliumpyError(f"{name!r} is several policies: {', '.join(sorted(found))}", "say which", 2)
    if not found:
        raise CiliumpyError(f"there is no policy {name!r}", "`ciliumpy policy list` shows them")
    (item,) = found.values()
    return _key(item["kind"], item["namespace"], item["name"])


def _key(kind: str, namespace: str, name: str) -> dict[str, str]:
    return {"kind": kind, "namespace": namespace, "name": name}
