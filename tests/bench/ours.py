# SPDX-License-Identifier: Apache-2.0
"""Our path: two pods, of one node or of two, plugged in by our plugin; 1,000 policies, 10,000 identities enforced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.bench.lab import BenchLab, bench_lab, namespace, pod, policy, put_identities, wait_for
from tests.bench.topology import Path2

POLICIES = 1000
IDENTITIES = 10_000
PORTS = [{"port": str(p), "protocol": "TCP"} for p in range(7001, 7005)]


@contextlib.contextmanager
def pods_under_policy(nodes: tuple[str, ...] = ("n1",)) -> Iterator[Path2]:
    """Both ends are enforced: the client in egress, the server in ingress; one policy of each half allows them."""
    with bench_lab(nodes) as lab:
        put_identities(lab, IDENTITIES)
        wait_for("all identities known", lambda: all(s["identities"] >= IDENTITIES for s in lab.statuses()))
        client = pod("client", {"role": "client"}, node=nodes[0])
        lab.apply(namespace(), client, pod("server", {"role": "server"}, node=nodes[-1]), name="pods")
        halves = POLICIES // 2
        policies = [_policy("ingress", n) for n in range(halves)] + [_policy("egress", n) for n in range(halves)]
        for start in range(0, POLICIES, 500):
            lab.apply(*policies[start : start + 500], name=f"policies-{start}")
        wait_for("both pods running", lambda: _running(lab))
        wait_for("all policies compiled", lambda: _compiled(lab))
        pods = lab.pods()
        yield Path2(
            "ours",
            f"/proc/{pods['client']['pids'][0]}/ns/net",
            f"/proc/{pods['server']['pids'][0]}/ns/net",
            *pods["server"]["addresses"],
        )


def _policy(direction: str, number: int) -> dict[str, object]:
    subject, other = ("server", "client") if direction == "ingress" else ("client", "server")
    peer = {"role": other} if number == 0 else {"group": f"g{number}"}
    key = "fromEndpoints" if direction == "ingress" else "toEndpoints"
    rule = {key: [{"matchLabels": peer}], "toPorts": [{"ports": PORTS}]}
    return policy(f"{direction}-{number}", {"role": subject}, **{direction: [rule]})


def _running(lab: BenchLab) -> bool:
    return [p["phase"] for p in lab.pods().values()] == ["Running", "Running"]


def _compiled(lab: BenchLab) -> bool:
    return all(
        status["state"] == "ok" and status["policy"]["policies"] == POLICIES and status["identities"] >= IDENTITIES
        for status in lab.statuses()
    )
