# SPDX-License-Identifier: Apache-2.0
"""Epochs: numbers in the kernel that only grow. A cached decision made under a lower one is made again.

The agent is the only writer. A bump comes after the last write of a batch: a packet that read the old rows stored the
old epoch. Several threads bump; one at a time, or one would write back what another has passed already.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from ciliumpy.datapath.encode import split_prefix, u32, u64

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ciliumpy.datapath.kernel import KernelMap, KernelMaps

GLOBAL = 0  # EPOCH_GLOBAL of bpf/c/layout.h
MIX = 0x9E3779B97F4A7C15  # EPOCH_MIX
BUCKET_BITS = 12  # of EPOCH_BUCKETS
ONE_BY_ONE = 32  # buckets; of more all are read and written at once


def bucket_of(prefix: str) -> int | None:
    """Return the bucket of `cp_ipepoch_v1` that a prefix lies in, or nothing if it is wider than a /24 or /64."""
    addr, length = split_prefix(prefix)
    v6 = ":" in prefix
    if length < (64 if v6 else 96 + 24):
        return None
    network = int.from_bytes(addr[:8] if v6 else addr[12:15], "big")
    return (network * MIX & (1 << 64) - 1) >> (64 - BUCKET_BITS)


class Epochs:
    """The three epoch maps. A new map's zeros are made ones at once: 0 is never valid."""

    def __init__(self, maps: KernelMaps) -> None:
        self._shared = maps["cp_epoch_v1"]
        self._slots = maps["cp_epepoch_v1"]
        self._peers = maps["cp_ipepoch_v1"]
        self._lock = threading.Lock()

    def is_fresh(self) -> bool:
        """Tell whether a map was made just now: what conntrack remembers is then of another time.

        Slot 0 is no endpoint, and nothing reads its epoch but this.
        """
        return 0 in (self._read(self._shared, GLOBAL), self._read(self._slots, 0), self._read(self._peers, 0))

    def value(self) -> int:
        """Return the global epoch."""
        return self._read(self._shared, GLOBAL)

    def bump_global(self) -> None:
        """For routes, devices, nodes' addresses, and vectors of living identities."""
        self._bump(self._shared, GLOBAL)

    def bump_peers(self, prefixes: Iterable[str]) -> None:
        """For what ipcache says of these: flows with others stay as they are. A wide prefix concerns everybody."""
        buckets = {bucket_of(prefix) for prefix in prefixes}
        if None in buckets:
            self.bump_global()
            return
        known = sorted(bucket for bucket in buckets if bucket is not None)
        if len(known) <= ONE_BY_ONE:
            for bucket in known:
                self._bump(self._peers, bucket)
            return
        with self._lock:
            keys, values = self._peers.items()
            due = np.isin(keys, known)
            raised = np.asarray(values).view(np.uint64)[due] + np.uint64(1)
            self._peers.update_batch(keys[due], raised.astype(np.uint64))

    def bump_endpoints(self, slots: Iterable[int]) -> None:
        """For an endpoint's set, its identity, its being there."""
        for slot in slots:
            self._bump(self._slots, slot)

    def bump_all(self) -> None:
        with self._lock:
            for map_ in (self._shared, self._slots, self._peers):
                keys, values = map_.items()
                map_.update_batch(keys, (np.asarray(values).view(np.uint64) + np.uint64(1)).astype(np.uint64))

    def _bump(self, map_: KernelMap, index: int) -> None:
        with self._lock:
            map_.update(u32(index), u64(self._read(map_, index) + 1))

    def _read(self, map_: KernelMap, index: int) -> int:
        return int.from_bytes(map_.lookup_bytes(u32(index)) or b"", "little")
