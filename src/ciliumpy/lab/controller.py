# SPDX-License-Identifier: Apache-2.0
"""`python -m ciliumpy.lab.controller NAME`: API server, scheduler, kubelet and endpoint controller of one lab.

Watches the store; makes the Pods of Deployments; gives Pods their nodes; keeps them running; keeps /etc/hosts and the
world's routes. It never starts, stops or asks an agent. A store that cannot be read changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.client import target
from ciliumpy.kit.clock import SystemClock
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import containers, hosts, manifests, records, runtime, schedule, spec, wire
from ciliumpy.lab.kubelet import Kubelet, Wanted
from ciliumpy.lab.mirror import Mirror
from ciliumpy.lab.place import Place
from ciliumpy.state.health import HealthRegistry
from ciliumpy.state.jobs import JobGroup
from ciliumpy.store.directory.store import DirectoryStore

if TYPE_CHECKING:
    from ciliumpy.lab.manifests import PodSpec
    from ciliumpy.lab.spec import LabSpec
    from ciliumpy.store.interface import Stored

Owners = dict[tuple[str, str], tuple[str, str]]  # Pod -> (Deployment, template hash)
_RETRY_S = 1.0
_LONGEST_PAUSE_S = 0.2
LOG = logging.getLogger("lab.controller")


class Parsed(NamedTuple):
    """A Pod's document, and what was read from it: a document that is another one is another object."""

    document: dict[str, Any]
    pod: PodSpec
    owner: tuple[str, str] | None


class Controller:
    """One lab. `run` returns when `stop` is called; the pods run on then."""

    def __init__(self, place: Place, lab: LabSpec) -> None:
        self._place = place
        self._lab = lab
        self._nodes = {n.name: lab.labels(n.name) for n in lab.nodes}
        self._store = DirectoryStore(place.store)
        self._mirror = Mirror(manifests.check)
        self._wake = asyncio.Event()
        self._stopping = False
        self._random = random.SystemRandom()
        self._kubelet = Kubelet(place, [str(target.run_dir()), str(place.store)], self._wake.set)
        self._parsed: dict[tuple[str, str], Parsed] = {}
        self._hosts: dict[str, str] = {}
        self._named: tuple[list[hosts.Named], set[str]] | None = None  # what the files of hosts were made of
        self._routes: dict[str, str] | None = None
        self._bindings: dict[tuple[str, str], str] = {}  # nodes of Pods that do not name one

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        known = records.read(self._place).pods
        self._bindings = {r.key: r.node for r in known if r.node}
        self._kubelet.adopt(known)
        jobs = JobGroup("lab", HealthRegistry(), SystemClock())
        jobs.start("watch", self._watch)
        try:
            while not self._stopping:
                await self._wake.wait()
                self._wake.clear()
                if self._mirror.synced and not self._stopping:
                    begin = time.monotonic()
                    await self._try_round()
                    # Many pods: what comes meanwhile is one round more, not one each.
                    await asyncio.sleep(min(time.monotonic() - begin, _LONGEST_PAUSE_S))
        finally:
            await jobs.stop()
            self._kubelet.close()

    async def _watch(self) -> None:
        async for batch in self._store.watch():
            self._mirror.take(batch)
            self._wake.set()

    async def _try_round(self) -> None:
        try:
            await self._round()
        except (CiliumpyError, OSError) as error:
            LOG.warning("tried again in %g s: %s", _RETRY_S, error)
            self._try_again()
        except Exception:
            LOG.exception("a defect of this program; tried again in %g s", _RETRY_S)
            self._try_again()

    def _try_again(self) -> None:
        asyncio.get_running_loop().call_later(_RETRY_S, self._wake.set)

    async def _round(self) -> None:
        problems = self._mirror.problems
        plan = self._plan()
        try:
            created = await asyncio.to_thread(self._write, plan)
            for stored in created:
                self._mirror.put(stored)
            for key in plan.delete:
                self._mirror.remove("Pod", *key)
        except CiliumpyError as error:
            problems.append(error.message)
            self._try_again()
        wanted, homeless = self._place_pods(*self._pods())
        self._write_hosts(extra={namespace for namespace, _ in wanted})
        self._kubelet.sync(wanted)
        self._write_hosts()
        await self._write_routes()
        pods = [*self._kubelet.records, *homeless]
        records.write(self._place, records.Snapshot(pods, self._mirror.fault, problems, os.getpid()))

    def _pods(self) -> tuple[dict[tuple[str, str], PodSpec], Owners]:
        """Return the Pods, and the Deployments that own some."""
        parsed: dict[tuple[str, str], Parsed] = {}
        for document in self._mirror.of("Pod"):
            metadata = document["metadata"]
            known = self._parsed.get((metadata.get("namespace") or "default", metadata["name"]))
            if known is None or known.document is not document:
                known = Parsed(document, manifests.pod(document), schedule.owner_of(document))
            parsed[known.pod.namespace, known.pod.name] = known
        self._parsed = parsed
        pods = {key: known.pod for key, known in parsed.items()}
        owners = {key: known.owner for key, known in parsed.items() if known.owner}
        return pods, owners

    def _plan(self) -> schedule.Plan:
        """Return what Deployments lack and have too many; new Pods have their node already."""
        pods, owners = self._pods()
        deployments = [manifests.deployment(document) for document in self._mirror.of("Deployment")]
        running = {r.key for r in self._kubelet.records if r.phase == "Running"}
        running -= self._not_well(deployments, owners, running)
        owned = [schedule.Owned(*key, *owner, running=key in running) for key, owner in owners.items()]
        plan = schedule.plan(deployments, owned, self._random)
        placed = schedule.Placed((w.node, w.group) for w in self._place_pods(pods, owners)[0].values())
        for document in plan.create:
            pod = manifests.pod(document)
            group = document["metadata"]["ownerReferences"][0]["name"]
            node = pod.node or schedule.choose(pod, group, self._nodes, placed)
            if node is not None:
                document["spec"] = {**document["spec"], "nodeName": node}
                placed.add(node, group)
        return plan

    def _not_well(
        self, deployments: list[manifests.DeploymentSpec], owners: Owners, running: set[tuple[str, str]]
    ) -> set[tuple[str, str]]:
        """Return the new Pods of a rollout whose containers do not run, or not yet steadily: the old ones stay."""
        current = {(d.namespace, d.name): schedule.template_hash(d.template) for d in deployments}
        old = {(key[0], name) for key, (name, made_of) in owners.items() if current.get((key[0], name)) != made_of}
        bad = set()
        for record in self._kubelet.records:
            if record.key in running and (record.namespace, record.deployment) in old:
                health = containers.read(runtime.state_file(self._place, record.container_id))
                if not health.settled or health.phase not in ("Running", "Completed"):
                    bad.add(record.key)
        if bad:
            self._try_again()
        return bad

    def _write(self, plan: schedule.Plan) -> list[Stored]:
        """Carry the plan into the store; return what was created. Runs in a thread: it may wait for the lock."""
        if not plan.create and not plan.delete:
            return []
        with self._store.transaction() as store:
            for namespace, name in plan.delete:
                store.delete("Pod", name, namespace)
            return [store.create(document) for document in plan.create]

    def _place_pods(
        self, pods: dict[tuple[str, str], PodSpec], owners: Owners
    ) -> tuple[dict[tuple[str, str], Wanted], list[records.PodRecord]]:
        """Return the Pods with their nodes, and records of those that find none."""
        self._bindings = {k: n for k, n in self._bindings.items() if k in pods and n in self._nodes}
        wanted: dict[tuple[str, str], Wanted] = {}
        homeless: list[records.PodRecord] = []
        placed = schedule.Placed()
        for key in sorted(pods):
            pod = pods[key]
            deployment, template = owners.get(key, ("", ""))
            group = f"{deployment}-{template}" if deployment else "/".join(key)
            node = pod.node or self._bindings.get(key) or schedule.choose(pod, group, self._nodes, placed)
            if node is None or node not in self._nodes:
                why = f"there is no node {pod.node!r}" if pod.node else f"no node has the labels {pod.selector}"
                homeless.append(records.PodRecord(*key, uid=pod.uid, deployment=deployment, message=why))
                continue
            self._bindings[key] = node
            placed.add(node, group)
            wanted[key] = Wanted(pod, node, deployment, group)
        return wanted, homeless

    def _write_hosts(self, extra: set[str] | None = None) -> None:
        running = [
            hosts.Named(r.namespace, r.name, r.deployment, tuple(r.addresses))
            for r in self._kubelet.records
            if r.phase == "Running"
        ]
        namespaces = {r.namespace for r in self._kubelet.records} | (extra or set())
        if (running, namespaces) == self._named:
            return
        self._named = running, namespaces
        others = {"world": self._lab.world(), **{n.name: self._lab.address(n.name) for n in self._lab.nodes}}
        for namespace in namespaces:
            text = hosts.render(namespace, running, others)
            if self._hosts.get(namespace) != text:
                self._hosts[namespace] = text
                _write_in_place(self._place, namespace, text)
        for namespace in self._hosts.keys() - namespaces:
            del self._hosts[namespace]
            (self._place.hosts / namespace).unlink(missing_ok=True)

    async def _write_routes(self) -> None:
        goal: dict[str, str] = {}
        names = {n.name for n in self._lab.nodes}
        for document in self._mirror.of("CiliumNode"):
            if document["metadata"]["name"] in names:
                addresses = {":" in a: a for a in self._lab.address(document["metadata"]["name"])}
                goal |= {c: addresses[":" in c] for c in _pod_cidrs(document) if (":" in c) in addresses}
        if goal != self._routes:
            await asyncio.to_thread(wire.route_pods, self._place, goal)
            self._routes = goal


def _pod_cidrs(node: dict[str, Any]) -> list[str]:
    ipam = (node.get("spec") or {}).get("ipam") or {}
    return [str(cidr) for cidr in ipam.get("podCIDRs") or []]


def _write_in_place(place: Place, namespace: str, text: str) -> None:
    """Pods have the file itself mounted, so it is changed and not replaced."""
    place.hosts.mkdir(mode=0o755, exist_ok=True)
    data = text.encode()
    with (place.hosts / namespace).open("ab") as file:
        current = file.tell()
    with (place.hosts / namespace).open("r+b", buffering=0) as file:
        file.write(data)
        if current > len(data):
            file.truncate(len(data))


async def _main(name: str) -> None:
    place = Place.of(name)
    controller = Controller(place, spec.read(place.file))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, controller.stop)
    LOG.info("lab %s: the controller runs", name)
    await controller.run()


def main() -> None:
    logging.Formatter.converter = time.gmtime  # as the agents' logs, beside which it is read
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    try:
        asyncio.run(_main(sys.argv[1]))
    except CiliumpyError as error:
        LOG.critical("%s", error.message)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
