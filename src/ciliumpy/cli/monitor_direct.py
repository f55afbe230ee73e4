# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy monitor --direct`: the pinned event rings of a node without an agent, read by this process.

It takes the rings' lock, so no agent can start while it runs; and what it has read, an agent will not see again. There
are no tables, so no names: identities and interfaces stay numbers.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ciliumpy.cli.bpf.every import require_root
from ciliumpy.cli.streams import Came, greet
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from ciliumpy.bpf.ring import RingGroup
    from ciliumpy.client.target import Target

POLL_S = 0.05


def events(target: Target, types: Collection[str]) -> Iterator[Came]:
    """Yield (node, record) for ever. CiliumpyError if an agent reads the rings, or there are none."""
    require_root()
    if target.running and target.pid and Path(f"/proc/{target.pid}").exists():  # else it was killed
        raise CiliumpyError(
            f"the agent of {target.node} runs and reads its events itself",
            "`ciliumpy monitor` without --direct asks it",
        )
    return _read(target, types)


def _read(target: Target, types: Collection[str]) -> Iterator[Came]:
    from ciliumpy.flows.direct import rows_of
    from ciliumpy.flows.monitor import records
    from ciliumpy.flows.names import Names

    with closing(_rings(target)) as rings, select.epoll() as full:
        for fd in rings.filenos:
            full.register(fd, select.EPOLLIN | select.EPOLLET)
        size = rings.rings[0].size if rings.rings else 0
        greet(f"{target.node}, without its agent: ", os.cpu_count() or 1, len(rings.rings), size)
        names = Names()
        while True:
            found = rings.consume()
            offset = time.time_ns() - time.monotonic_ns()
            for record in records(rows_of(found, rings.take_losses(), offset), names, types):
                yield target.node, record
            if not len(found):
                full.poll(POLL_S)


def _rings(target: Target) -> RingGroup:
    from ciliumpy.bpf.btf import Btf
    from ciliumpy.bpf.build import OBJECTS
    from ciliumpy.bpf.maps import Map
    from ciliumpy.bpf.ring import RingGroup

    maps = target.bpffs / "maps"
    if not (maps / "cp_events_v1").exists():
        raise CiliumpyError(f"there are no event rings at {maps}", "an agent has never run on this node")
    layout = Btf.from_object(OBJECTS / "datapath.o").dtype("event")
    with Map.open_pinned(maps / "cp_events_v1") as outer:
        states = Map.open_pinned(maps / "cp_evstate_v1")
        return RingGroup(outer, layout, target.run_dir / "events.lock", states)
