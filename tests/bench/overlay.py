# SPDX-License-Identifier: Apache-2.0
"""Traffic between two nodes through our tunnel against the kernel's own vxlan device with static routes.

The same namespaces in both: pod, node, a bridge as the wire, node, pod; the same MTUs; outer packets without UDP
checksum. Ours has 1,000 policies over 10,000 identities enforced, the kernel's none. Each load runs with both ends on
one core and with one core each.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.ours import pods_under_policy
from tests.bench.report import Report
from tests.bench.rounds import FAMILIES, ONE, TWO, Case, compare
from tests.bench.topology import build_load, tune_client, vxlan

CASES = tuple(
    Case(f"{mode}_vs_vxlan_{cores}", mode, "vxlan", mark, cores)
    for cores in (ONE, TWO)
    for mode, mark in (("rr", 1.0), ("crr", 1.0), ("stream", 0.95))
)


def run() -> Report:
    report = Report("overlay")
    with tempfile.TemporaryDirectory() as folder, vxlan() as kernel, pods_under_policy(("n1", "n2")) as ours:
        load = build_load(Path(folder))
        for path in (kernel, ours):
            tune_client(path.client)
        for family in FAMILIES:
            compare(report, load, (kernel, ours), CASES, family)
    return report
