# SPDX-License-Identifier: Apache-2.0
"""Names of the maps that are taken as one: whoever walks connection tracking takes all of CONNTRACK_MAPS.

A flow is in one of the first two once it was answered, before in one of the others; for a moment it may be in both, and
then the first is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

UNANSWERED_MAPS = ("cp_ctu4_v1", "cp_ctu6_v1")
CONNTRACK_MAPS = ("cp_ct4_v1", "cp_ct6_v1", *UNANSWERED_MAPS)
FRAGMENT_MAPS = ("cp_frag4_v1", "cp_frag6_v1")


class Width(NamedTuple):
    """How many selectors a node can have in use: VECTOR_BITS of bpf/c/layout.h, and what is named after it."""

    bits: int
    object: str
    vectors: str
    classes: str

    @property
    def maps(self) -> tuple[str, str]:
        """Classes first: so they are unpinned."""
        return self.classes, self.vectors


NARROW = Width(1024, "datapath", "cp_vector_v1", "cp_class_v2")
WIDE = Width(4096, "datapath_wide", "cp_vector4k_v1", "cp_class4k_v2")
WIDTHS = (NARROW, WIDE)


# Which setting of the agent gives a map its size.
SETTINGS = {
    "cp_ct4_v1": "conntrack.entries",
    "cp_ct6_v1": "conntrack.entries",
    "cp_ctu4_v1": "conntrack.unanswered",
    "cp_ctu6_v1": "conntrack.unanswered",
    "cp_iphost_v1": "maps.ipcache",
    "cp_ipcidr_v1": "maps.ipcache",
    "cp_set_v2": "maps.policySets",
    "cp_port_v1": "maps.policyPorts",
    "cp_range_v1": "maps.policyRanges",
    "cp_frag4_v1": "maps.fragments",
    "cp_frag6_v1": "maps.fragments",
}
SETTINGS |= {width.vectors: "maps.identities" for width in WIDTHS}
SETTINGS |= {width.classes: "maps.policyClasses" for width in WIDTHS}


def width_in_use(pins: Path) -> Width:
    """Return the width whose maps are the whole truth. Where both are pinned the narrow ones are, and go last."""
    return WIDE if (pins / WIDE.classes).exists() and not (pins / NARROW.classes).exists() else NARROW
