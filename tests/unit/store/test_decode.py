# SPDX-License-Identifier: Apache-2.0
"""Documents into rows, field by field, and what is refused with its path."""

from __future__ import annotations

from typing import Any

import pytest

from ciliumpy.model.documents import parse
from ciliumpy.model.errors import FieldError, path_text
from ciliumpy.model.options import PolicyOptions
from ciliumpy.store.decode import check_kind, decode
from ciliumpy.store.kinds import key_of
from ciliumpy.tables import source


def row(text: str) -> Any:
    (document,) = parse(text.encode())
    key = key_of(document.value)
    assert check_kind(document.value) is None
    found = decode(key, document.value, origin="f.yaml", options=PolicyOptions(cluster="blue"))
    return found and found.row


POD = """
apiVersion: v1
kind: Pod
metadata:
  name: api-5d4f-abcde
  namespace: shop
  uid: u1
  labels: {tier: api, pod-template-hash: 5d4f}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: api-5d4f, controller: true}]
spec:
  nodeName: n1
  serviceAccountName: robot
  hostNetwork: false
  tolerations: [{whatever: it is}]
  containers:
    - {name: main, image: x, ports: [{name: http, containerPort: 8080}, {containerPort: 9090}]}
    - {name: dns, ports: [{name: dns, protocol: UDP, containerPort: 53}]}
"""


def test_pod() -> None:
    assert row(POD) == source.Pod(
        namespace="shop",
        name="api-5d4f-abcde",
        uid="u1",
        node="n1",
        labels=(("pod-template-hash", "5d4f"), ("tier", "api")),
        service_account="robot",
        ports=(source.NamedPort("http", "TCP", 8080), source.NamedPort("dns", "UDP", 53)),
        workload_kind="Deployment",
        workload_name="api",
    )
    bare = row("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n")
    assert bare == source.Pod("default", "a", service_account="default")
    other = row(POD.replace("kind: ReplicaSet, name: api-5d4f", "kind: DaemonSet, name: ds"))
    assert (other.workload_kind, other.workload_name) == ("DaemonSet", "ds")


@pytest.mark.parametrize(
    ("status", "ips"),
    [
        ("{podIP: 10.0.0.9, podIPs: [{ip: 10.0.0.9}, {ip: 'FD00::9'}]}", ("10.0.0.9", "fd00::9")),
        ("{phase: Running, podIP: 10.0.0.9}", ("10.0.0.9",)),
        ("{phase: Succeeded, podIP: 10.0.0.9}", ()),
        ("{phase: Failed, podIP: 10.0.0.9}", ()),
        ("{podIP: soon, podIPs: [{ip: 7}, 8, {}, {ip: 10.0.0.300}, {ip: 'fe80::1%eth0'}]}", ()),
        ("{podIPs: none}", ()),
        ("[]", ()),
    ],
)
def test_a_pod_that_runs_has_the_addresses_of_its_status(status: str, ips: tuple[str, ...]) -> None:
    assert row(f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nstatus: {status}\n").ips == ips


def test_namespace_gets_the_label_of_its_name() -> None:
    found = row("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: a}}\n")
    assert found.labels == (("kubernetes.io/metadata.name", "shop"), ("team", "a"))


def test_node() -> None:
    found = row("""
apiVersion: cilium.io/v2
kind: CiliumNode
metadata: {name: n1}
spec:
  addresses:
    - {type: InternalIP, ip: "fd00::1"}
    - {type: InternalIP, ip: 10.0.0.1}
    - {type: CiliumInternalIP, ip: 10.244.0.1}
    - {type: ExternalIP, ip: 1.2.3.4}
  ipam: {podCIDRs: ["fd00:10:244::/64", 10.244.0.0/24]}
""")
    assert found == source.Node(
        "n1", "blue", ("10.0.0.1", "fd00::1"), ("10.244.0.1",), ("10.244.0.0/24", "fd00:10:244::/64")
    )


def test_identity_and_endpoint() -> None:
    found = row("""
apiVersion: cilium.io/v2
kind: CiliumIdentity
metadata: {name: "3000"}
security-labels: {"k8s:tier": api, "k8s:io.kubernetes.pod.namespace": shop, "k8s:flag": ""}
""")
    assert found == source.IdentityObject(3000, ("k8s:flag", "k8s:io.kubernetes.pod.namespace=shop", "k8s:tier=api"))
    found = row("""
apiVersion: cilium.io/v2
kind: CiliumEndpoint
metadata: {name: api, namespace: shop}
status:
  id: 12
  identity: {id: 3000, labels: []}
  networking: {addressing: [{ipv4: 10.244.0.5, ipv6: "fd00::5"}], node: 10.0.0.1, nodeName: n1}
  state: ready
""")
    assert found == source.EndpointObject("shop", "api", 12, 3000, "n1", "10.0.0.1", ("10.244.0.5", "fd00::5"))


def test_policy_and_deployment() -> None:
    found = row("""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: shop}
spec: {endpointSelector: {}, ingress: [{}]}
""")
    assert (found.kind, found.namespace, found.name, found.origin, found.stale) == (
        "CiliumNetworkPolicy", "shop", "p", "f.yaml", False
    )  # fmt: skip
    assert len(found.rules) == 1
    assert row("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n") is None


def test_unknown_kinds_are_told() -> None:
    said = check_kind({"apiVersion": "v1", "kind": "Secret"})
    assert said == "objects of kind Secret have no effect in this version"


META = "metadata: {name: a}\n"


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("a: 1\n", "apiVersion", "is missing"),
        ("apiVersion: v1\nkind: [Pod]\n", "kind", "must be text"),
        ("apiVersion: v1\nkind: Pod\n", "metadata", "is missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: []\n", "metadata", "must be a mapping"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {}\n", "metadata.name", "is missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: 5}\n", "metadata.name", "must be text; put it in quotes"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: ../a}\n", "metadata.name", "'../a' is no name"),
        ("apiVersion: v2\nkind: Pod\n" + META, "apiVersion", "must be v1 for a Pod"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {x: 1}}\n", "metadata.labels.x", "must be text"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {a=b: x}}\n", 'metadata.labels["a=b"]', "is no label"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {A/b: x}}\n", 'metadata.labels["A/b"]', "is no label"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {x: a b}}\n", "metadata.labels.x", "is no value"),
        ("apiVersion: v1\nkind: Pod\n" + META + "spec: []\n", "spec", "must be a mapping"),
        (POD.replace("8080", "70000"), "spec.containers[0].ports[0].containerPort", "must be a number from 1 to 65535"),
        (POD.replace("8080", "true"), "spec.containers[0].ports[0].containerPort", "must be a number"),
        (POD.replace("UDP", "IGMP"), "spec.containers[1].ports[0].protocol", "must be one of TCP, UDP, SCTP"),
        ("apiVersion: cilium.io/v2\nkind: CiliumIdentity\n" + META, "metadata.name", "must be the identity's number"),
        ('apiVersion: cilium.io/v2\nkind: CiliumIdentity\nmetadata: {name: "007"}\n', "metadata.name", "must be the"),
        (
            "apiVersion: cilium.io/v2\nkind: CiliumNode\n" + META + "spec: {ipam: {podCIDRs: [10.0.0.1/24]}}\n",
            "spec.ipam.podCIDRs[0]",
            "'10.0.0.1/24' is no network",
        ),
        (
            "apiVersion: cilium.io/v2\nkind: CiliumEndpoint\n" + META + "status: {id: x}\n",
            "status.id",
            "must be a number, not x",
        ),
    ],
)
def test_what_is_wrong_is_named(text: str, path: str, message: str) -> None:
    with pytest.raises(FieldError) as caught:
        row(text)
    assert path_text(caught.value.path) == path
    assert message in caught.value.message


def test_kubernetes_own_policies_become_rules():
    found = row("""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec: {podSelector: {}, policyTypes: [Egress]}
""")
    assert (found.kind, found.namespace, found.name, found.notices) == ("NetworkPolicy", "shop", "p", ())
    assert [rule.path for rule in found.rules] == ["spec.policyTypes[0]"]
    found = row("""
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: p}
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}}
""")
    assert (found.kind, found.namespace, found.rules) == ("ClusterNetworkPolicy", "", ())
    assert "policy.clusterNetworkPolicy" in found.notices[0]


def test_a_service_is_whom_it_selects():
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: shop, labels: {a: b}}\n"
    found = row(text + "spec: {selector: {app: db}, ports: [{port: 80}]}")
    assert found == source.Service("shop", "db", (("a", "b"),), (("app", "db"),))
    assert row(text + "spec: {type: ExternalName, selector: {app: db}}").selector == ()
    assert row(text).selector == ()
    with pytest.raises(FieldError, match=r"spec\.selector\.app"):
        row(text + "spec: {selector: {app: 7}}")


SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints:
"""


def test_a_slice_has_the_addresses_that_serve():
    found = row(
        SLICE
        + "- addresses: [10.0.0.1, 10.0.0.1]\n"
        + "- {addresses: [10.0.0.2], conditions: {ready: false}}\n"
        + "- {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: true}}\n"
        + "- {addresses: [10.0.0.4], conditions: {ready: true}}\n"
    )
    assert found == source.EndpointSlice("shop", "db-1", "db", ("10.0.0.1", "10.0.0.3", "10.0.0.4"))
    assert row(SLICE.replace("IPv4", "FQDN") + "- addresses: [db.example.com]").addresses == ()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (SLICE.replace("IPv4", "IPv7"), "addressType"),
        (SLICE.replace("addressType: IPv4\n", ""), "addressType"),
        (SLICE + "- addresses: ['fd00::1']", "endpoints[0].addresses[0]"),
        (SLICE + "- addresses: [here]", "endpoints[0].addresses[0]"),
        (SLICE + "- {addresses: [10.0.0.1], conditions: {ready: maybe}}", "endpoints[0].conditions.ready"),
    ],
)
def test_a_slice_that_is_none_is_refused_with_its_path(text: str, path: str):
    with pytest.raises(FieldError) as caught:
        row(text)
    assert path_text(caught.value.path) == path


GROUP = "apiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {name: vpn, labels: {a: b}}\n"


@pytest.mark.parametrize("version", ["cilium.io/v2", "cilium.io/v2alpha1"])
def test_a_group_has_prefixes(version: str):
    found = row(
        GROUP.replace("cilium.io/v2", version) + "spec: {externalCIDRs: [10.1.2.3/8, 10.0.0.0/8, '2001:DB8::/32']}"
    )
    assert found == source.CidrGroup("vpn", (("a", "b"),), ("10.0.0.0/8", "2001:db8::/32"))
    assert row(GROUP + "spec: {}").prefixes == ()


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ("", "spec"),
        ("spec: {externalCIDRs: 10.0.0.0/8}", "spec.externalCIDRs"),
        ("spec: {externalCIDRs: [10.0.0.0/8, 10.0.0.1]}", "spec.externalCIDRs[1]"),
        ("spec: {externalCIDRs: [10.0.0.0/33]}", "spec.externalCIDRs[0]"),
        ("spec: {externalCIDR: [10.0.0.0/8]}", "spec.externalCIDR"),
    ],
)
def test_a_group_of_what_are_no_prefixes_is_refused_with_its_path(spec: str, path: str):
    with pytest.raises(FieldError) as caught:
        row(GROUP + spec)
    assert path_text(caught.value.path) == path


def test_another_version_of_a_kind_is_refused():
    with pytest.raises(FieldError, match=r"must be networking\.k8s\.io/v1 for a NetworkPolicy"):
        row("apiVersion: networking.k8s.io/v1beta1\nkind: NetworkPolicy\nmetadata: {name: p}\n")
