# SPDX-License-Identifier: Apache-2.0
"""Desired kernel tables, and the reconcilers that carry them into maps, links and routes.

Invariants. Vectors are written before the sets that name their bits, an identity's vector before the ipcache rows that
name the identity, a set before the endpoints that point at it; deletion goes the other way. An epoch is bumped after
the last write of a batch and before a row counts as done, and epochs only grow. What does not fit is refused whole and
said on its row: nothing opens. A pod's device comes up only when its program is attached and its rows are written.
Stopping leaves everything in place: maps and links are pinned.

Which rows there shall be is not decided here, and nothing here reads the store.
"""
