# SPDX-License-Identifier: Apache-2.0
"""A lab that exists as far as the command line can see: the real admin API over filled tables, on real sockets."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ciliumpy.api.admin import AdminContext
from ciliumpy.api.admin_changes import Objects
from ciliumpy.api.admin_server import serve
from ciliumpy.daemon import config
from ciliumpy.daemon.runtime import RuntimeConfig
from ciliumpy.model.cnp import decode_policy
from ciliumpy.model.options import PolicyOptions
from ciliumpy.policy.repository import PolicyKey, Repository
from ciliumpy.state.database import Database
from ciliumpy.store.changes import Changes
from ciliumpy.store.decode import version_of
from ciliumpy.store.directory.store import DirectoryStore, create_store
from ciliumpy.store.interface import Key
from ciliumpy.tables.datapath import KERNEL_ENDPOINTS, KernelEndpoint
from ciliumpy.tables.endpoints import ENDPOINTS, Endpoint
from ciliumpy.tables.enforcement import (
    POLICY_SETS,
    SELECTOR_BITS,
    VECTORS,
    Level,
    PolicySet,
    PortClass,
    PortRow,
    SelectorBit,
    SelectorVector,
)
from ciliumpy.tables.identities import IDENTITIES, Identity
from ciliumpy.tables.ipcache import IPCACHE, IPCacheEntry
from ciliumpy.tables.registry import ALL_TABLES
from ciliumpy.tables.source import NODES, POLICIES, Node, Policy

LAB = "demo"
RESERVED = {1: "host", 2: "world", 4: "health", 5: "init", 6: "remote-node"}
PODS = {  # name: (identity, namespace, labels)
    "frontend-1": (21001, "shop", {"tier": "frontend"}),
    "api-1": (21002, "shop", {"tier": "api"}),
    "api-2": (21002, "shop", {"tier": "api"}),
    "visitor-1": (21003, "guest", {"app": "visitor"}),
}
PLACES = {"n1": ("frontend-1", "api-1"), "n2": ("api-2", "visitor-1")}
API_POLICY = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "api", "namespace": "shop"},
    "spec": {
        "endpointSelector": {"matchLabels": {"tier": "api"}},
        "ingress": [
            {
                "fromEndpoints": [{"matchLabels": {"tier": "frontend"}}],
                "toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}],
            }
        ],
    },
}


def labels(namespace: str, own: Mapping[str, str]) -> tuple[str, ...]:
    texts = [f"k8s:{key}={value}" for key, value in own.items()]
    texts += ["k8s:io.cilium.k8s.policy.cluster=default", f"k8s:io.kubernetes.pod.namespace={namespace}"]
    return tuple(sorted(texts))


def policy_sets(node: str) -> list[PolicySet]:
    """What the endpoints are judged by; on n2 a rule more is on its way."""
    rule, more = (f"CiliumNetworkPolicy/shop/api#spec.ingress[{n}]" for n in (0, 1))
    ports = (PortRow(0, 6, 8080, 8080, 1),)
    allow = Level(1, mask=b"\1" + bytes(127), rules=((0, rule),))
    both = Level(1, mask=b"\1" + bytes(127), rules=((0, rule), (0, more)))
    now = PolicySet(7, 21002, True, False, (0, 0), ports, (PortClass(1, (allow,)),), 3, current=node == "n1")
    then = PolicySet(9, 21002, True, True, (0, 0), ports, (PortClass(1, (both,)),), 4)
    other = PolicySet(6, 21001 if node == "n1" else 21003, False, False, (0, 0), (), (), 2)
    return [now, other] if node == "n1" else [now, other, then]


def database(node: str) -> Database:
    """The tables of one agent, settled."""
    db = Database(ALL_TABLES)
    number = int(node[1:])
    with db.write() as txn:
        for other in PLACES:
            n = int(other[1:])
            txn.upsert(
                NODES,
                Node(
                    other,
                    "default",
                    (f"192.168.0.{n}", f"fd00::{n}"),
                    (f"10.244.{n}.1",),
                    (f"10.244.{n}.0/24", f"fd00:10:244:{n}::/64"),
                ),
            )
        for identity, name in RESERVED.items():
            txn.upsert(IDENTITIES, Identity(identity, (f"reserved:{name}",), reserved=True))
        for identity, namespace, own in PODS.values():
            txn.upsert(IDENTITIES, Identity(identity, labels(namespace, own)))
        for other, pods in PLACES.items():
            for slot, pod in enumerate(pods, 3):
                identity, namespace, _ = PODS[pod]
                tunnel = "" if other == node else f"192.168.0.{other[1:]}"
                prefix = f"10.244.{other[1:]}.{slot}/32"
                txn.upsert(IPCACHE, IPCacheEntry(prefix, identity, tunnel, 0, "endpoint", namespace, pod, other))
        txn.upsert(IPCACHE, IPCacheEntry("10.0.0.0/8", 2, source="reserved"))
        txn.upsert(IPCACHE, IPCacheEntry("10.244.0.0/16", 2, source="reserved"))
        txn.upsert(IPCACHE, IPCacheEntry(f"192.168.0.{number}/32", 1, flags=2, source="node", node=node))
        for slot, pod in enumerate(PLACES[node], 3):
            identity, namespace, own = PODS[pod]
            enforced = own.get("tier") == "api"
            v4, v6 = f"10.244.{number}.{slot}", f"fd00:10:244:{number}::{slot}"
            device = f"lxc{node}{slot:08d}"
            mac, host_mac = f"0a:00:00:00:0{number}:0{slot}", f"0e:00:00:00:0{number}:0{slot}"
            txn.upsert(
                ENDPOINTS,
                Endpoint(
                    *(
                        slot,
                        1,
                        namespace,
                        pod,
                        f"{pod}-container-0123456789",
                        "eth0",
                        device,
                        10 + slot,
                        2,
                        mac,
                        host_mac,
                    ),
                    ipv4=v4,
                    ipv6=v6,
                    labels=labels(namespace, own),
                    identity=identity,
                    state="ready",
                ),
            )
            txn.upsert(
                KERNEL_ENDPOINTS,
                KernelEndpoint(
                    slot,
                    1,
                    10 + slot,
                    2,
                    device,
                    identity,
                    7 if enforced else 6,
                    enforced,
                    False,
                    mac,
                    host_mac,
                    v4,
                    v6,
                ),
            )
        rules, version = decode_policy(API_POLICY).rules, version_of(API_POLICY)
        own = Policy("CiliumNetworkPolicy", "shop", "api", rules, "/store/policy.yaml", version=version)
        txn.upsert(POLICIES, own)
        for row in policy_sets(node):
            txn.upsert(POLICY_SETS, row)
        for identity in (21001, 21002, 21003):
            txn.upsert(VECTORS, SelectorVector(identity, bytes([identity == 21001, *[0] * 127])))
        txn.upsert(SELECTOR_BITS, SelectorBit(0, "k8s:io.kubernetes.pod.namespace=shop,k8s:tier=frontend"))
    db.table(KERNEL_ENDPOINTS).reconciled = True
    for policy in db.table(POLICIES).all():
        key = (policy.kind, policy.namespace, policy.name)
        db.table(POLICIES).set_status(key, db.table(POLICIES).revision_of(key), "done")
    for row in db.table(KERNEL_ENDPOINTS).all():
        db.table(KERNEL_ENDPOINTS).set_status(row.slot, db.table(KERNEL_ENDPOINTS).revision_of(row.slot), "done")
    return db


def status(node: str) -> dict[str, Any]:
    number = int(node[1:])
    return {
        "node": node,
        "cluster": "default",
        "version": "0.1.0",
        "pid": 4000 + number,
        "uptimeSeconds": 192.5,
        "state": "ok",
        "problems": [],
        "store": {"path": "/run/ciliumpy/labs/demo/store", "state": "ok", "message": ""},
        "ipam": {
            "ipv4": {"cidr": f"10.244.{number}.0/24", "allocated": 4, "total": 254},
            "ipv6": {"cidr": f"fd00:10:244:{number}::/64", "allocated": 4, "total": 65534},
        },
        "datapath": {"device": "eth0", "tunnel": "vxlan", "attach": "tcx", "programs": 5, "epoch": 12, "foreign": []},
        "endpoints": {"total": 2, "ready": 2, "notReady": 0},
        "policy": {
            "revision": 3,
            "realised": 3,
            "policies": 1,
            "refused": {"count": 0, "first": []},
            "sets": 2,
            "classes": 4,
            "bits": 2,
            "bitsTotal": 1024,
            "auditMode": False,
            "audited": 1 if node == "n2" else 0,
        },
        "identities": 8,
        "identityUse": {"cluster": 3, "clusterTotal": 65280, "local": 0},
        "hubble": {"flows": 117, "maxFlows": 65536, "seen": 117, "rate": 2.51, "events": 98, "lost": 0, "heldBack": 0},
        "monitor": {"cpus": 2, "rings": 2, "ringBytes": 1048576},
        "jobs": [
            {"name": "store/reflector", "state": "ok", "message": "", "restarts": 0},
            {"name": "datapath/prune", "state": "ok", "message": "0 repaired", "restarts": 0},
        ],
        "loopLagMs": {"p50": 0.1, "p99": 1.4, "max": 6.0},
        "maps": [
            {
                "name": "cp_ct4_v1",
                "entries": 12,
                "maxEntries": 65536,
                "pressure": 0.0002,
                "setting": "conntrack.entries",
            }
        ],
    }


class Enforced:
    """Policy of one agent as the controller tells of it."""

    def __init__(self, db: Database) -> None:
        self.revision = self.realised = 3
        self.pending = 0
        self._repository = Repository()
        for identity in db.table(IDENTITIES).all():
            if db.table(ENDPOINTS).by("identity", identity.id):
                self._repository.set_subject(identity.id, identity.labels)
        for row in db.table(POLICIES).all():
            self._repository.set_policy(PolicyKey(row.kind, row.namespace, row.name), row.rules)

    @property
    def counts(self) -> Enforced:
        return self

    def subjects_of(self, kind: str, namespace: str, name: str) -> set[int]:
        return self._repository.selected_by(PolicyKey(kind, namespace, name))

    def refusals_of(self, identity: int) -> list[str]:
        return []


def objects(db: Database, folder: Path) -> Objects:
    """The store of a lab, which no agent follows: what is imported is in its files and in no table."""

    def origins(key: Key) -> list[tuple[str, int]]:
        row = db.table(POLICIES).get(tuple(key))
        return [(row.origin, 1)] if row else []

    async def document_of(key: Key) -> dict[str, Any] | None:
        return API_POLICY if db.table(POLICIES).get(tuple(key)) else None

    async def documents() -> list[dict[str, Any]]:
        return [API_POLICY] if len(db.table(POLICIES)) else []

    changes = Changes(DirectoryStore(folder), origins, PolicyOptions())
    return Objects(changes, document_of, documents, Enforced(db))


async def monitor(types: frozenset[str]) -> AsyncIterator[bytes]:
    for kind in sorted(types or {"drop", "trace"}):
        yield json.dumps({"type": kind}).encode()


def configuration(folder: Path, node: str) -> RuntimeConfig:
    """n1 has its settings from three places."""
    more = "hubble:\n  flows: 4096\nnetwork:\n  tunnelPort: 8473\n" if node == "n1" else ""
    (folder / "agent.yaml").write_text(f"node: {{name: {node}, lab: {LAB}}}\n{more}")
    environment = {"CILIUMPY_HUBBLE_FLOWS": "8192"} if node == "n1" else {}
    return RuntimeConfig(config.load(folder / "agent.yaml", environment), {"network.mtu": 1500})


class Lab:
    """Nodes n1 and n2. `statuses` may be changed by a test; `stop` takes a node's agent away, as a crash does.

    `asked` is set once a status has been asked for.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.statuses = {node: status(node) for node in PLACES}
        self.asked = threading.Event()
        self.databases = {node: database(node) for node in PLACES}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lab", daemon=True)
        self._servers: dict[str, asyncio.Task[None]] = {}

    def folder(self, node: str) -> Path:
        return self.run_dir / "labs" / LAB / node

    def start(self) -> None:
        self._thread.start()
        create_store(self.run_dir / "labs" / LAB / "store")
        for node in PLACES:
            asyncio.run_coroutine_threadsafe(self._serve(node), self._loop).result(10)
            self.announce(node)
        spec = {"name": LAB, "nodes": [{"name": node} for node in PLACES]}
        (self.run_dir / "labs" / LAB / "lab.json").write_text(json.dumps(spec))

    def announce(self, node: str, **extra: Any) -> None:
        folder = self.folder(node)
        said = {"node": node, "cluster": "default", "lab": LAB, "pid": 1, "version": "0.1.0"}
        said |= {"adminSocket": str(folder / "agent.sock"), "hubbleSocket": str(folder / "hubble.sock")}
        (folder / "agent.json").write_text(json.dumps(said | extra))

    def stop(self, node: str) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(node), self._loop).result(10)

    def close(self) -> None:
        for node in list(self._servers):
            self.stop(node)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, node: str) -> None:
        self.folder(node).mkdir(parents=True)
        settings = configuration(self.folder(node), node)
        store = objects(self.databases[node], self.run_dir / "labs" / LAB / "store")

        async def audit(number: int, mode: bool | None) -> None:
            db = self.databases[node]
            row = db.table(KERNEL_ENDPOINTS).get(number)
            assert row is not None
            with db.write() as txn:
                txn.upsert(KERNEL_ENDPOINTS, msgspec.structs.replace(row, audit=bool(mode)))
            db.table(KERNEL_ENDPOINTS).set_status(number, db.table(KERNEL_ENDPOINTS).revision_of(number), "done")

        context = AdminContext(self.databases[node], lambda: self._status(node), settings, monitor, store, audit)
        listening = asyncio.Event()
        server = serve(context, self.folder(node) / "agent.sock", listening.set)
        self._servers[node] = asyncio.get_running_loop().create_task(server)
        await listening.wait()

    def _status(self, node: str) -> dict[str, Any]:
        self.asked.set()
        return self.statuses[node]

    async def _stop(self, node: str) -> None:
        server = self._servers.pop(node)
        server.cancel()
        await asyncio.wait([server])


@contextmanager
def lab(run_dir: Path) -> Iterator[Lab]:
    built = Lab(run_dir)
    try:
        built.start()
        yield built
    finally:
        built.close()
