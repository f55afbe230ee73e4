# SPDX-License-Identifier: Apache-2.0
"""What a lab takes from manifests, and how it refuses the rest."""

from __future__ import annotations

import copy

import pytest

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import hosts, manifests, spec
from ciliumpy.model.errors import FieldError, path_text

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "api-1", "namespace": "shop"},
    "spec": {
        "nodeName": "n1",
        "hostname": "api",
        "restartPolicy": "Never",
        "containers": [
            {
                "name": "c",
                "image": "nginx",
                "command": ["sh", "-c"],
                "args": ["sleep 1"],
                "env": [{"name": "A", "value": "b"}, {"name": "EMPTY"}],
                "workingDir": "/tmp",
                "ports": [{"containerPort": 8080, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}],
                "readinessProbe": {"httpGet": {"port": 8080}},
            }
        ],
        "volumes": [],
    },
}


def changed(path, value):
    document = copy.deepcopy(POD)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return document


def test_a_pod_is_taken_as_it_says():
    found = manifests.pod(POD)
    assert found == manifests.PodSpec(
        "shop",
        "api-1",
        "",
        "n1",
        {},
        "api",
        "Never",
        (
            manifests.ContainerSpec(
                "c", ("sh", "-c", "sleep 1"), {"A": "b", "EMPTY": ""}, "/tmp", (("TCP", 8080), ("UDP", 53))
            ),
        ),
        ("containers[].readinessProbe", "volumes"),
    )


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("spec",), None, "spec"),
        (("spec", "containers"), [], "spec.containers"),
        (("spec", "containers"), {}, "spec.containers"),
        (("spec", "containers", 0), "x", "spec.containers[0]"),
        (("spec", "containers", 0, "name"), None, "spec.containers[0].name"),
        (("spec", "containers", 0, "command"), "sh", "spec.containers[0].command"),
        (("spec", "containers", 0, "command"), ["sh", 1], "spec.containers[0].command[1]"),
        (("spec", "containers", 0, "env", 0, "name"), "A=B", "spec.containers[0].env[0].name"),
        (("spec", "containers", 0, "ports", 0, "containerPort"), 70000, "spec.containers[0].ports[0].containerPort"),
        (("spec", "containers", 0, "ports", 0, "containerPort"), "80", "spec.containers[0].ports[0].containerPort"),
        (("spec", "containers", 0, "ports", 0, "protocol"), "tcp", "spec.containers[0].ports[0].protocol"),
        (("spec", "restartPolicy"), "Sometimes", "spec.restartPolicy"),
        (("spec", "nodeName"), 7, "spec.nodeName"),
        (("spec", "nodeSelector"), {"a": 1}, "spec.nodeSelector.a"),
    ],
)
def test_a_fault_is_named_by_its_field(path, value, field):
    with pytest.raises(FieldError) as error:
        manifests.pod(changed(path, value))
    assert path_text(error.value.path) == field


def test_a_deployments_faults_are_named_in_its_template():
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": ""}]}}
    document = {"kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": template}}
    with pytest.raises(FieldError) as error:
        manifests.deployment(document)
    assert path_text(error.value.path) == "spec.template.spec.containers[0].name"
    document["spec"]["replicas"] = -1
    with pytest.raises(FieldError, match=r"spec\.replicas"):
        manifests.deployment(document)
    document["spec"] |= {"replicas": 1, "selector": {"matchLabels": {"a": "c"}}}
    with pytest.raises(FieldError, match="does not match"):
        manifests.deployment(document)


PODS = [
    hosts.Named("shop", "api-1", "api", ("10.0.0.1", "fd00::1")),
    hosts.Named("shop", "api-2", "api", ("10.0.0.2", "fd00::2")),
    hosts.Named("guest", "api", "", ("10.0.0.3", "fd00::3")),
    hosts.Named("shop", "world", "", ("10.0.0.4", "fd00::4")),
    hosts.Named("shop", "x", "deployed", ("10.0.0.5",)),
    hosts.Named("shop", "deployed", "", ("10.0.0.6",)),
]


def resolve(text, name):
    return [line.split()[0] for line in text.splitlines() if name in line.split()[1:]]


def test_names_in_hosts():
    shop = hosts.render("shop", PODS, {"world": ("192.0.2.10",), "n1": ("172.30.0.11",)})
    guest = hosts.render("guest", PODS, {"world": ("192.0.2.10",)})
    assert resolve(shop, "localhost") == ["127.0.0.1", "::1"]
    assert resolve(shop, "api") == resolve(shop, "api.shop.svc.cluster.local") == resolve(guest, "api.shop")
    assert resolve(shop, "api") == ["10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2"]
    assert resolve(guest, "api") == ["10.0.0.3", "fd00::3"]
    assert resolve(shop, "api-2") == ["10.0.0.2", "fd00::2"]
    assert resolve(shop, "world") == ["10.0.0.4", "fd00::4"], "the lab's own names go last"
    assert resolve(guest, "world") == ["192.0.2.10"]
    assert resolve(shop, "deployed") == ["10.0.0.5"], "a Deployment goes before a Pod"


def test_a_lab_file(tmp_path):
    file = tmp_path / "lab.yaml"
    file.write_text("name: big\nnodes: [a, {name: b, labels: {disk: ssd}}]\npodCIDRs: [10.1.0.0/16, 'fd01::/48']\n")
    lab = spec.load(file, None)
    assert (lab.name, [n.name for n in lab.nodes]) == ("big", ["a", "b"])
    assert lab.labels("b") == {"kubernetes.io/hostname": "b", "disk": "ssd"}
    assert lab.address("a") == ("172.30.0.11", "fd00:172:30::11")
    assert lab.address("b") == ("172.30.0.12", "fd00:172:30::12")
    assert spec.load(file, "small").name == "small"
    spec.save(tmp_path / "lab.json", lab)
    assert spec.read(tmp_path / "lab.json") == lab


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodes: [a}", "lab.yaml:1"),
        ("nodez: [a]", "nodez"),
        ("nodes: [a, a]", "different names"),
        ("nodes: [store]", "taken by the lab"),
        ("nodes: [A]", "must be 1 to 30"),
        ("name: ../x", "must be 1 to 30"),
        ("wire: [10.0.0.0/30, 'fd00::/64']", "larger IPv4"),
        ("wire: [nope, 'fd00::/64']", "wire"),
        ("[]", "must hold one lab"),
        ("mtu: many", "mtu"),
        ("mtu: -5", "mtu must be 1330 to 65535, not -5"),
        ("mtu: 1329", "mtu must be"),
        ("wire: [10.244.0.0/24, 'fd01::/64']", "podCIDRs: 10.244.0.0/16 overlaps with wire 10.244.0.0/24"),
        ("podCIDRs: [192.0.2.0/24, 'fd01::/48']", "overlaps with the world's address 192.0.2.10"),
        ("podCIDRs: [0.0.0.0/0, '::/0']", "has no addresses for nodes and pods"),
        ("wire: [224.0.0.0/24, 'fd00::/64']", "has no addresses"),
        ("wire: [127.0.0.0/24, 'fd00::/64']", "has no addresses"),
        ("wire: [10.0.0.0/24, 'fe80::/64']", "has no addresses"),
    ],
)
def test_a_lab_file_with_a_fault(tmp_path, text, said):
    file = tmp_path / "lab.yaml"
    file.write_text(text)
    with pytest.raises(CiliumpyError, match=said) as error:
        spec.load(file, None)
    assert error.value.exit_code == 2
