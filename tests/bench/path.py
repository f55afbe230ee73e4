# SPDX-License-Identifier: Apache-2.0
"""Same-node traffic through our datapath against kernel veth routing and against a bare veth pair.

Ours runs with 1,000 policies over 10,000 identities enforced. Rounds are interleaved, ours and the others within
seconds of each other, until every ratio's interval is within 2 % or there have been 60. Latency and connection rate
have both ends on one core, streams one core each.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.ours import pods_under_policy
from tests.bench.report import Report
from tests.bench.rounds import FAMILIES, TWO, Case, compare
from tests.bench.topology import build_load, direct, routing, tune_client

CASES = (
    Case("rr_vs_routing", "rr", "routing", 1.05),
    Case("rr_vs_direct", "rr", "direct", 0.92),
    Case("stream_vs_routing", "stream", "routing", 1.0, TWO),
    Case("crr_vs_routing", "crr", "routing", 1.0),
)


def run() -> Report:
    report = Report("path")
    with tempfile.TemporaryDirectory() as folder, direct() as d, routing() as r, pods_under_policy() as ours:
        load = build_load(Path(folder))
        for path in (d, r, ours):
            tune_client(path.client)
        for family in FAMILIES:
            compare(report, load, (d, r, ours), CASES, family)
    return report
