# SPDX-License-Identifier: Apache-2.0
"""Event records and tables for tests: the columns of `struct event`, and a small cluster that they happen in."""

from __future__ import annotations

from ipaddress import ip_address

import numpy as np

from ciliumpy.state.database import Database
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.enforcement import POLICY_SETS, Level, PolicySet, PortClass, PortRow
from ciliumpy.tables.identities import IDENTITIES, Identity
from ciliumpy.tables.ipcache import IPCACHE, IPCacheEntry
from ciliumpy.tables.registry import ALL_TABLES
from ciliumpy.tables.source import PODS, Pod

ADDR = np.dtype([("b", "u1", (16,))])
RULE = np.dtype([("class_id", "u4"), ("bit", "u2"), ("level", "u1"), ("verdict", "u1")])
# As bpf/btf.py makes it of layout.h; test_layout.py compares the two.
EVENT = np.dtype(
    {
        "names": [
            *("ktime", "seq", "cpu", "type", "reason", "saddr", "daddr", "sport", "dport", "protocol", "flags"),
            *("tcp_flags", "hook", "src_identity", "dst_identity", "src_endpoint", "dst_endpoint", "service_id"),
            *("egress", "ingress", "ifindex", "length", "bytes", "line", "file", "ext_error", "packets"),
        ],
        "formats": [
            *("u8", "u4", "u2", "u1", "u1", ADDR, ADDR, "u2", "u2", "u1", "u1"),
            *("u1", "u1", "u4", "u4", "u2", "u2", "u4"),
            *(RULE, RULE, "u4", "u4", ("u8", (2,)), "u2", "u1", "i1", ("u4", (2,))),
        ],
        "offsets": [
            *(0, 8, 12, 14, 15, 16, 32, 48, 50, 52, 53),
            *(54, 55, 56, 60, 64, 66, 68),
            *(72, 80, 88, 92, 96, 96, 98, 99, 112),
        ],
        "itemsize": 120,
    }
)

FLOW, DROP, AGGREGATE, CLOSE = 1, 2, 3, 4
IPV6, REPLY, REPLY_UNKNOWN, TO_LOCAL, TO_OVERLAY, TO_HOST, TO_NETWORK, TO_PROXY = (1 << bit for bit in range(8))
NOT_ASKED, NOT_ENFORCED, ALLOWED, DENIED, DEFAULT_DENIED, REDIRECTED, BY_REPLY, NO_POLICY = range(8)
AUDITED = 0x80
SYN, ACK = 2, 16

FRONTEND, API, VISITOR = 1001, 1002, 1003
FRONTEND_IP, API_IP, VISITOR_IP, WORLD_IP = "10.244.0.5", "10.244.0.6", "10.244.1.9", "192.0.2.7"
FRONTEND_IP6, API_IP6 = "fd00:10:244::5", "fd00:10:244::6"


def packed(text: str) -> bytes:
    address = ip_address(text)
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def event(kind: int = FLOW, saddr: str = FRONTEND_IP, daddr: str = API_IP, **fields) -> np.ndarray:
    """One record; `egress` and `ingress` are (class, bit, level, verdict). Defaults: frontend's SYN to api, local."""
    record = np.zeros(1, EVENT)
    values = {
        "type": kind,
        "ktime": 1_000,
        "protocol": 6,
        "sport": 40000,
        "dport": 8080,
        "tcp_flags": SYN,
        "hook": 1,
        "flags": TO_LOCAL if kind != DROP else REPLY_UNKNOWN,
        "src_identity": FRONTEND,
        "dst_identity": API,
        "src_endpoint": 5,
        "dst_endpoint": 6,
        "ifindex": 11,
        "length": 60,
        **fields,
    }
    for name, value in values.items():
        record[name] = value
    record["saddr"]["b"] = np.frombuffer(packed(saddr), "u1")
    record["daddr"]["b"] = np.frombuffer(packed(daddr), "u1")
    if ":" in saddr:
        record["flags"] |= IPV6
    return record


def block(*records: np.ndarray) -> np.ndarray:
    return np.concatenate(records)


def labels(namespace: str, **more: str) -> tuple[str, ...]:
    known = {"io.cilium.k8s.policy.cluster": "default", "io.kubernetes.pod.namespace": namespace, **more}
    return tuple(sorted(f"k8s:{key}={value}" for key, value in known.items()))


FRONTEND_LABELS = labels("shop", tier="frontend")
API_LABELS = labels("shop", tier="api")
VISITOR_LABELS = labels("guest", app="visitor")


def endpoint(number: int, namespace: str, pod: str, address: str, names: tuple[str, ...], identity: int) -> Endpoint:
    return Endpoint(
        id=number,
        generation=1,
        namespace=namespace,
        pod=pod,
        container_id=f"c{number}",
        interface="eth0",
        host_interface=f"lxc{number:012x}",
        ifindex=number + 6,
        peer_ifindex=2,
        mac="02:00:00:00:00:01",
        host_mac="02:00:00:00:00:02",
        ipv4=address,
        ipv6=f"fd00:10:244::{address.rpartition('.')[2]}",
        labels=names,
        identity=identity,
        state="ready",
    )


def cluster() -> Database:
    """A cluster: frontend and api run here; visitor is on another node; api is closed but for frontend on TCP 8080."""
    db = Database(ALL_TABLES)
    policy = "CiliumNetworkPolicy/shop/api-from-frontend#spec.ingress[0]"
    port_class = PortClass(7, (Level(2, mask=b"\1" + bytes(127), rules=((0, policy),)),))
    asks = "CiliumNetworkPolicy/shop/api-rules#spec.ingress[1].toPorts[0]"
    remarks = ((asks, "a log value", "http GET /public"),)
    looked_at = PortClass(8, (Level(3, everybody=True, rules=((0xFFFF, asks), (0xFFFF, policy)), remarks=remarks),))
    with db.write() as txn:
        txn.upsert(ENDPOINTS, endpoint(5, "shop", "frontend-1", FRONTEND_IP, FRONTEND_LABELS, FRONTEND))
        txn.upsert(ENDPOINTS, endpoint(6, "shop", "api-1", API_IP, API_LABELS, API))
        txn.upsert(IDENTITIES, Identity(FRONTEND, FRONTEND_LABELS))
        txn.upsert(IDENTITIES, Identity(API, API_LABELS))
        txn.upsert(IDENTITIES, Identity(VISITOR, VISITOR_LABELS))
        txn.upsert(IDENTITIES, Identity(9, ("reserved:world-ipv4",), reserved=True))
        txn.upsert(IPCACHE, IPCacheEntry(f"{VISITOR_IP}/32", VISITOR, "172.20.0.2", namespace="guest", pod="visitor-1"))
        txn.upsert(PODS, Pod("shop", "frontend-1", workload_kind="Deployment", workload_name="frontend"))
        txn.upsert(
            POLICY_SETS,
            PolicySet(
                3,
                API,
                True,
                False,
                (0, 0),
                (PortRow(0, 6, 8080, 8080, 7), PortRow(0, 6, 9090, 9090, 8)),
                (port_class, looked_at),
                revision=4,
            ),
        )
    return db
