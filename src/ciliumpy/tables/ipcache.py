# SPDX-License-Identifier: Apache-2.0
"""Which identity an address has, and where it is. Written by nodes/ipcache.py alone; kernel rows as they are."""

from __future__ import annotations

import msgspec

from ciliumpy.state.table import TableSpec


class IPCacheEntry(msgspec.Struct, frozen=True):
    prefix: str  # 10.244.0.7/32
    identity: int
    tunnel: str = ""  # node address to encapsulate to
    flags: int = 0  # enum ipcache_flags of bpf/c/layout.h
    source: str = "agent"  # agent, node, endpoint, pod, cidr, reserved
    namespace: str = ""
    pod: str = ""
    node: str = ""


IPCACHE = TableSpec("ipcache", IPCacheEntry, key=lambda r: r.prefix, indexes={"identity": lambda r: (r.identity,)})
