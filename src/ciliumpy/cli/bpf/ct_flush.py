# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy bpf ct flush`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ciliumpy.cli.bpf.ct_filter import Endpoint, Filter, Ip, Port, Protocol
from ciliumpy.cli.bpf.ct_list import Global, check
from ciliumpy.cli.bpf.ct_rows import entries, pinned, raw
from ciliumpy.cli.bpf.every import every
from ciliumpy.cli.options import Lab, Node, Output, Yes
from ciliumpy.cli.output import finish, parse_format, show
from ciliumpy.cli.terminal import confirm

if TYPE_CHECKING:
    from ciliumpy.client.target import Target


def run(
    which: Global = "global",
    ip: Ip = [],  # noqa: B006 - typer copies it
    endpoint: Endpoint = None,
    port: Port = None,
    protocol: Protocol = None,
    yes: Yes = False,
    lab: Lab = None,
    node: Node = None,
    output: Output = "text",
) -> None:
    """Forget flows: all, or those that every given flag means. Says how many rows went. Writes to the kernel.

    It opens nothing: the next packet of each flow is judged anew, by the policy of now. A connection goes on if that
    allows it in the direction of the packet that comes first; the counters of the flow begin again. On a terminal it
    asks first.
    """
    check(which)
    form = parse_format(output)
    wanted = Filter.of(ip, endpoint, port, protocol)
    place = wanted.node_of(node)
    if not yes:
        found, _ = every(lab, place, lambda target: [{"rows": len(keys)} for _, keys in matching(target, wanted)])
        nodes = ", ".join(dict.fromkeys(item["node"] for item in found))
        confirm(f"Forget {sum(item['rows'] for item in found)} conntrack rows of {nodes}?")
    items, errors = every(lab, place, lambda target: flush(target, wanted))
    if form.kind not in ("text", "wide"):
        show("FlushList", items, [], output, name=lambda i: i["map"], sort=lambda i: i["map"], errors=errors)
        return
    for item in items:
        sys.stdout.write(f"Flushed {item['flushed']} entries from {item['path']}\n")
    finish(errors)


def flush(target: Target, wanted: Filter) -> list[dict[str, Any]]:
    """Delete what is wanted from each map; what went by itself meanwhile is not counted."""
    from ciliumpy.bpf.maps import Map

    done = []
    for path, keys in matching(target, wanted):
        with Map.open_pinned(path) as rows:
            gone = rows.delete_batch(b"".join(keys)) if keys else 0
        done.append({"map": path.name, "path": str(path), "flushed": gone})
    return done


def matching(target: Target, wanted: Filter) -> list[tuple[Any, list[bytes]]]:
    """Return of each map where it is and the keys of the rows that are meant, expired ones too."""
    from ciliumpy.bpf.maps import Map

    found = []
    for path in pinned(target):
        with Map.open_pinned(path) as rows:
            keys, values = rows.items()
        chosen = raw(keys)
        if wanted != Filter():
            chosen = [key for key, row in zip(chosen, entries(keys, values), strict=True) if wanted.meets(row)]
        found.append((path, chosen))
    return found
