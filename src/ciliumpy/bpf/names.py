# SPDX-License-Identifier: Apache-2.0
"""Names of the maps that are taken as one: whoever walks connection tracking takes all of CONNTRACK_MAPS."""

from __future__ import annotations

CONNTRACK_MAPS = ("cp_ct4_v1", "cp_ct6_v1")
