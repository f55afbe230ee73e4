# SPDX-License-Identifier: Apache-2.0
"""Where the datapath drops packets: the source files, by the numbers that are in a drop's record."""

from __future__ import annotations

# enum source_file of bpf/c/layout.h
FILES = {
    1: "pod.h",
    2: "overlay.h",
    3: "host.h",
    4: "netdev.h",
    5: "parse.h",
    6: "conntrack.h",
    7: "policy.h",
    8: "deliver.h",
    9: "icmp.h",
    10: "resolve.h",
    11: "slow.h",
    12: "fragment.h",
    13: "mtu.h",
}


def source_file(number: int) -> str:
    return FILES.get(number, f"unknown({number})")
