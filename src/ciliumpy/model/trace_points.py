# SPDX-License-Identifier: Apache-2.0
"""Where in the datapath a packet was seen: Cilium's observation points, by their number in a trace event."""

from __future__ import annotations

TRACE_POINTS = (
    "to-endpoint",
    "to-proxy",
    "to-host",
    "to-stack",
    "to-overlay",
    "from-endpoint",
    "from-proxy",
    "from-host",
    "from-stack",
    "from-overlay",
    "from-network",
    "to-network",
    "from-crypto",
    "to-crypto",
)
