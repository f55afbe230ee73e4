# SPDX-License-Identifier: Apache-2.0
"""Labs of one family, and with the tunnel over IPv6: everything that a lab of both does."""

from __future__ import annotations

import os

import pytest

from tests.soak import SOAK

from .lab_support import LabUnderTest, eventually, leftovers

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

LABS = {
    "v4-only": ("agent: {network: {ipv6: false}}", (4,), 1450),
    "v6-only": ("agent: {network: {ipv4: false}}", (6,), 1430),
    "over-v6": ("underlay: ipv6", (4, 6), 1430),
    "v4-over-v6": ("{underlay: ipv6, agent: {network: {ipv6: false}}}", (4,), 1430),
    "v6-over-v4": ("{underlay: ipv4, agent: {network: {ipv4: false}}}", (6,), 1450),
}
PODS = """
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: near}}
spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: far}}
spec: {nodeName: n2, containers: [{name: c, ports: [{containerPort: 8080}]}]}
"""
POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: server}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress: [{fromEndpoints: [{matchLabels: {app: far}}]}]
"""
WORLD = {4: "192.0.2.10", 6: "2001:db8::10"}
NODES = {4: ("172.30.0.11", "172.30.0.12"), 6: ("fd00:172:30::11", "fd00:172:30::12")}


USUAL = ("v4-only", "v6-only", "over-v6")


@pytest.fixture(params=LABS if SOAK else USUAL)
def lab(request, tmp_path):
    made = LabUnderTest(f"cpt{os.getpid()}{request.param.replace('-', '')}")
    text, made.versions, made.mtu = LABS[request.param]
    (tmp_path / "lab.yaml").write_text(text)
    try:
        made.lab("up", "-f", str(tmp_path / "lab.yaml"))
        made.apply(PODS)
        yield made
    finally:
        made.lab("down", check=False)
    assert leftovers(made.name) == []


def fetch(lab, pod, address):
    host = f"[{address}]" if ":" in address else address
    return lab.exec(pod, "curl", "-sS", "-g", "--max-time", "1", f"http://{host}:8080/").stdout.strip()


def pings(lab, pod, address):
    return lab.exec(pod, "ping", "-c", "1", "-W", "1", address).returncode == 0


def test_a_lab_of_other_families(lab):
    pods = lab.pods()
    for pod in pods.values():
        assert [6 if ":" in a else 4 for a in pod["addresses"]] == list(lab.versions)
    assert int(lab.exec("near", "cat", "/sys/class/net/eth0/mtu").stdout) == lab.mtu
    for at, version in enumerate(lab.versions):
        addresses = {name: pod["addresses"][at] for name, pod in pods.items()}
        for source, target in (("near", "server"), ("far", "server"), ("server", "far")):
            assert eventually(lambda s=source, t=target, a=addresses: fetch(lab, s, a[t]) == t)
        assert fetch(lab, "near", WORLD[version]) == "world"
        for node in NODES[version]:
            assert pings(lab, "near", node), node
    assert fetch(lab, "near", "far") == "far"
    lab.apply(POLICY)
    for at, _ in enumerate(lab.versions):
        address = pods["server"]["addresses"][at]
        assert eventually(lambda a=address: fetch(lab, "near", a) == "")
        assert fetch(lab, "far", address) == "server"
    assert lab.run("status", "--lab", lab.name).returncode == 0
    known = lab.run("ip", "list", "--lab", lab.name, "--node", "n1").stdout.splitlines()
    behind = next(line for line in known if pods["far"]["addresses"][0] in line)
    assert NODES[6 if lab.mtu == 1430 else 4][1] in behind.split()
