# SPDX-License-Identifier: Apache-2.0
"""Names of the maps that are taken as one: whoever walks connection tracking takes all of CONNTRACK_MAPS.

A flow is in one of the first two once it was answered, before in one of the others; for a moment it may be in both, and
then the first is right.
"""

from __future__ import annotations

UNANSWERED_MAPS = ("cp_ctu4_v1", "cp_ctu6_v1")
CONNTRACK_MAPS = ("cp_ct4_v1", "cp_ct6_v1", *UNANSWERED_MAPS)
FRAGMENT_MAPS = ("cp_frag4_v1", "cp_frag6_v1")
