# SPDX-License-Identifier: Apache-2.0
"""Event rings without a kernel."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from tests.unit.flows import events


class Loss(NamedTuple):
    cpu: int
    seq: int
    lost: int
    ktime: int


class Rings:
    """What bpf.ring.RingGroup gives to its reader: records, losses, and a descriptor that becomes readable."""

    def __init__(self) -> None:
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._parts: list[np.ndarray] = []
        self._losses: list[Loss] = []
        self.filenos = (self._wake,)

    def close(self) -> None:
        os.close(self._wake)

    def put(self, *records, losses=()) -> None:
        self._parts += records
        self._losses += losses
        os.eventfd_write(self._wake, 1)

    def consume(self) -> np.ndarray:
        parts, self._parts = self._parts, []
        return np.concatenate(parts) if parts else np.empty(0, events.EVENT)

    def take_losses(self) -> list[Loss]:
        losses, self._losses = self._losses, []
        return losses
