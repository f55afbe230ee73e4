# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy lab delete`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ciliumpy.cli.options import Lab
from ciliumpy.kit.errors import CiliumpyError

What = Annotated[list[str] | None, typer.Argument(metavar="[KIND NAME...]", help="E.g. `pod shop/api-1`, `cnp api`.")]
File = Annotated[list[str] | None, typer.Option("--file", "-f", metavar="FILE|DIR|-", help="What is in manifests.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", metavar="NAMESPACE", help="Where NAME says none.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until they have gone.")]


def run(
    what: What = None, file: File = None, namespace: Namespace = "default", wait: Wait = True, lab: Lab = None
) -> None:
    """Delete objects from the lab, by kind and name or by the manifests that made them."""
    from ciliumpy.lab import objects, place, status, taken

    where = place.only_lab(lab)
    if bool(what) == bool(file) or (what and len(what) < 2):
        raise CiliumpyError("say either KIND NAME or -f FILE", "ciliumpy lab delete pod shop/api-1", 2)
    if file:
        keys = [manifest.key for source in file for manifest in objects.read(source)]
    else:
        kind = objects.kind_of(what[0]) if what else ""
        keys = [objects.key_from(kind, name, namespace) for name in (what or [])[1:]]
    policies = taken.Policies(where) if wait else None
    done = objects.delete(where, keys)
    for key, there in done:
        sys.stdout.write(f"{key} {'deleted' if there else 'not found'}\n")
    sys.stdout.flush()
    if policies is not None:
        policies.wait({key: "deleted" if there else "unchanged" for key, there in done})
        status.wait_gone(where, 60.0)
    if not file and not all(there for _, there in done):
        raise typer.Exit(1)
