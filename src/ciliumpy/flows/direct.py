# SPDX-License-Identifier: Apache-2.0
"""Rows of records without any table: what the datapath itself said, nobody's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ciliumpy.flows import columns
from ciliumpy.flows.expand import Joined, Side, expand

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ciliumpy.flows.columns import Rows
    from ciliumpy.flows.pipeline import Loss


def rows_of(events: Rows, losses: Iterable[Loss], wall_offset_ns: int) -> Rows:
    """Return rows of dtype FLOW in order of time, losses among them."""
    nothing, none = np.zeros(len(events), np.uint32), np.zeros(len(events), np.uint8)
    src, dst = (Side(nothing, events[f"{side}_identity"], events[f"{side}_endpoint"]) for side in ("src", "dst"))
    rows = expand(events, Joined(src, dst, nothing, nothing, none, none), wall_offset_ns)
    missing = [
        columns.loss(loss.ktime + wall_offset_ns, loss.lost, columns.LOST_IN_KERNEL, loss.cpu) for loss in losses
    ]
    if not missing:
        return rows
    rows = np.concatenate([*missing, rows])
    return columns.take(rows, np.argsort(rows["time"], kind="stable"))
