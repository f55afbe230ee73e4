# SPDX-License-Identifier: Apache-2.0
"""The policy engine by itself, in a process of its own: `python -m tests.bench.policy_engine SHAPE POLICIES`.

From decoded objects to every set and every vector that a node with 100 endpoints has: what the agent does when it
starts, without tables and kernel. Prints one JSON object; memory is the process' resident set at its end.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from ciliumpy.enforcement.encode import Numbers, encode
from ciliumpy.enforcement.vectors import Vectors
from ciliumpy.model.cnp import decode_policy
from ciliumpy.policy.repository import PolicyKey, Repository
from tests.bench import policy_load as load

IDENTITIES, ENDPOINTS, BITS = 10_000, 100, 4096


def full(shape: str, count: int) -> dict[str, float]:
    labels, here = load.labels(IDENTITIES), load.local(ENDPOINTS, IDENTITIES)
    began = time.perf_counter()
    policies = []
    for at in range(0, count, 1000):  # the documents of an agent are not all there at once either
        for each in load.documents(min(1000, count - at), shape, IDENTITIES, first=at):
            metadata = each["metadata"]
            key = PolicyKey(each["kind"], metadata.get("namespace", ""), metadata["name"])
            policies.append((key, decode_policy(each).rules))
    decoded = time.perf_counter()
    vectors, repository, bits = Vectors(BITS, {}), Repository(), {}
    for _ in vectors.set_identities(labels):
        pass
    for identity in here:
        repository.set_subject(identity, labels[identity])
    for key, rules in policies:
        repository.set_policy(key, rules)
    compiled = {identity: repository.compile(identity) for identity in here}
    for each in compiled.values():
        for selector in each.selectors():
            bits.setdefault(selector, len(bits))
    vectors.give(bits)
    numbers = Numbers()
    sets = [encode(each, identity, bits, numbers, 1, BITS)[0] for identity, each in compiled.items()]
    rows = [vectors.row(identity) for identity in labels]
    done = time.perf_counter()
    return {
        "decode_s": decoded - began,
        "compile_s": done - decoded,
        "rss_mb": resident_mb(),
        "selectors": len(bits),
        "classes": sum(len(one.classes) for one in sets),
        "ports": sum(len(one.ports) for one in sets),
        "vectors": len(rows),
    }


def known(count: int) -> dict[str, float]:
    """So many identities, under the selectors of a thousand broad policies."""
    vectors, bits = Vectors(BITS, {}), {}
    for each in load.documents(1000, "broad", IDENTITIES):
        for rule in decode_policy(each).rules:
            for peer in rule.peers or ():
                bits.setdefault(peer, len(bits))
    vectors.give(bits)
    labels = load.labels(count)
    began = time.perf_counter()
    for _ in vectors.set_identities(labels):
        pass
    rows = [vectors.row(identity) for identity in labels]
    return {"known_s": time.perf_counter() - began, "rss_mb": resident_mb(), "vectors": len(rows)}


def resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


if __name__ == "__main__":
    what, number = sys.argv[1], int(sys.argv[2])
    print(json.dumps(known(number) if what == "known" else full(what, number)))
