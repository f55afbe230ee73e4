# SPDX-License-Identifier: Apache-2.0
"""Where a test is played: two namespaces of its own, six pods, an actor in each, on the nodes and outside.

Names carry a suffix that no other run has, so that two runs do not meet. `close` takes everything away again, whatever
of it there is.
"""

from __future__ import annotations

import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.connectivity import judge
from ciliumpy.connectivity.handle import Handle
from ciliumpy.connectivity.plan import (
    BIG_PING,
    CIDR_OUTSIDE,
    CLUSTER_NETWORK_POLICY,
    FORGE,
    HOST_FIREWALL,
    ICMP_POLICY,
    ICMP_VERBS,
    IPV4,
    IPV6,
    L7_POLICY,
    OUTSIDE,
    OUTSIDE_OTHER,
    SECOND_NODE,
    Cast,
    Party,
)
from ciliumpy.connectivity.seen import Telescope
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.verdicts import Enforcement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ciliumpy.connectivity.cluster import Cluster, Node
    from ciliumpy.connectivity.handle import Answer
    from ciliumpy.connectivity.plan import Action
    from ciliumpy.connectivity.seen import Conversation, Seen
    from ciliumpy.model.options import PolicyOptions

PREFIX = "ciliumpy-test"
PORTS = (8080, 8081)  # that every pod's actor serves, TCP and UDP
BULK_BYTES = 4 << 20
_ALPHABET = "bcdfghjklmnpqrstvwxz0123456789"
_FORGED_S = 0.2
_AFTER_A_FAULT_S = 1.0


class _Pod(NamedTuple):
    key: str
    app: str
    far: bool = False
    visitor: bool = False
    web: int = 0  # the port of that name


_PODS = (
    _Pod("client", "client"),
    _Pod("other", "other", web=PORTS[1]),
    _Pod("echo", "echo", web=PORTS[0]),
    _Pod("visitor", "client", visitor=True),
    _Pod("client-far", "client", far=True),
    _Pod("echo-far", "echo", far=True, web=PORTS[1]),
)


class Limits(NamedTuple):
    """Seconds. `denied`: how long nothing must come back; `request`: how long an answer or a flow may take."""

    request: float = 5.0
    denied: float = 0.5


class Played(NamedTuple):
    """What is wrong with an action, in words; its conversation and the flows of that."""

    faults: tuple[str, ...]
    conversation: Conversation
    flows: list[Seen]


class Stage:
    """`build` makes it, `close` removes it; in between `play` does one action and gives what is wrong about it."""

    def __init__(self, cluster: Cluster, limits: Limits, say: Callable[[str], None]) -> None:
        suffix = "".join(secrets.choice(_ALPHABET) for _ in range(5))
        self.namespace, self.elsewhere = f"{PREFIX}-{suffix}", f"{PREFIX}-{suffix}-b"
        self.missing: dict[str, str] = {}  # feature -> why
        self.skipped = 0  # actions, for lack of an address
        self.expected_drops: set[Conversation] = set()
        self._cluster = cluster
        self._limits = limits
        self._say = say
        self._begun = False
        self._actors: dict[str, Handle] = {}
        self._pods: dict[str, Mapping[str, Any]] = {}  # as they were made
        self._lock = threading.Lock()
        self._telescope: Telescope | None = None

    @property
    def telescope(self) -> Telescope:
        assert self._telescope is not None  # noqa: S101
        return self._telescope

    def build(self) -> Cast:
        nodes = self._cluster.nodes()
        near, far = nodes[0], nodes[1] if len(nodes) > 1 else None
        if far is None:
            self.missing[SECOND_NODE] = "there is one node"
        if not self._cluster.outside():
            self.missing[OUTSIDE] = "nothing can be started outside of the cluster"
        elif len(self._cluster.outside()) < 2:
            self.missing[OUTSIDE_OTHER] = "the outside has one address of a family"
        self.missing |= lacking(self._cluster.policy_options())
        pods = [pod for pod in _PODS if far is not None or not pod.far]
        self._begun = True
        self._say(f"✨ [{self._cluster.name}] Creating namespaces {self.namespace} and {self.elsewhere}...")
        self._say(f"✨ [{self._cluster.name}] Deploying {', '.join(pod.key for pod in pods)}...")
        since = time.time_ns()
        self._pods = {pod.key: self._pod(pod, near, far) for pod in pods}
        self._cluster.apply([_namespace(self.namespace), _namespace(self.elsewhere), *self._pods.values()])
        self._telescope = Telescope(
            self._cluster.hubble(),
            [self.namespace, self.elsewhere],
            since,
            nodes=[address for node in nodes for address in node.addresses.values()],
            outside=[address for place in self._cluster.outside() for address in place.values()],
        )
        self._say("🔭 Following the flows of " + ", ".join(node.name for node in nodes) + "...")
        return self._cast(pods, near, far)

    def _pod(self, pod: _Pod, near: Node, far: Node | None) -> Mapping[str, Any]:
        node = far if pod.far and far is not None else near
        container: dict[str, Any] = {"name": "actor", "command": ["sleep", "infinity"]}
        if pod.web:
            container["ports"] = [{"name": "web", "containerPort": pod.web, "protocol": "TCP"}]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod.key, "namespace": self._home(pod), "labels": {"app": pod.app}},
            "spec": {"nodeName": node.name, "containers": [container]},
        }

    def _home(self, pod: _Pod) -> str:
        return self.elsewhere if pod.visitor else self.namespace

    def _cast(self, pods: Sequence[_Pod], near: Node, far: Node | None) -> Cast:
        known = {space: self._cluster.addresses(space) for space in (self.namespace, self.elsewhere)}
        jobs: dict[str, Callable[[], Party]] = {
            pod.key: lambda pod=pod: self._place_pod(  # type: ignore[misc]
                pod, (far if pod.far and far else near).name, known[self._home(pod)].get(pod.key, {})
            )
            for pod in pods
        }
        jobs["host"] = lambda: self._place_host("host", near)
        if far is not None:
            jobs["host-far"] = lambda: self._place_host("host-far", far)
        if OUTSIDE not in self.missing:
            jobs["outside"] = self._place_outside
        with ThreadPoolExecutor(len(jobs)) as pool:
            parties = {key: future.result() for key, future in {k: pool.submit(j) for k, j in jobs.items()}.items()}
        if not {OUTSIDE, OUTSIDE_OTHER} & self.missing.keys():
            addresses = self._cluster.outside()[1]
            parties["outside-other"] = parties["outside"]._replace(key="outside-other", addresses=addresses)
            self._actors["outside-other"] = self._actors["outside"]
        nobody = Party("nobody", "outside", "", {}, PORTS)
        for family, feature in ((4, IPV4), (6, IPV6)):
            if not all(parties[pod.key].addresses.get(family) for pod in pods):
                self.missing[feature] = f"pods have no IPv{family} address"
        everybody = (
            "client", "other", "echo", "visitor", "client-far", "echo-far", "host", "host-far", "outside",
            "outside-other",
        )  # fmt: skip
        return Cast(self.namespace, self.elsewhere, *(parties.get(key, nobody) for key in everybody))

    def _place_pod(self, pod: _Pod, node: str, addresses: Mapping[int, str]) -> Party:
        home = self._home(pod)
        handle = self._enter(pod.key, f"pod {home}/{pod.key}", lambda: self._cluster.in_pod(home, pod.key))
        self._listen(handle, PORTS)
        return Party(pod.key, "pod", node, addresses, PORTS, home)

    def _place_host(self, key: str, node: Node) -> Party:
        handle = self._enter(key, f"node {node.name}", lambda: self._cluster.on_node(node.name))
        return Party(key, "host", node.name, node.addresses, self._listen(handle, (0, 0)))

    def _place_outside(self) -> Party:
        handle = self._enter("outside", "the outside", self._cluster.out_there)
        return Party("outside", "outside", "", self._cluster.outside()[0], self._listen(handle, (0, 0)))

    def _enter(self, key: str, who: str, start: Callable[[], Any]) -> Handle:
        handle = Handle(who, start())
        with self._lock:
            self._actors[key] = handle
        return handle

    @staticmethod
    def _listen(handle: Handle, ports: tuple[int, int]) -> tuple[int, int]:
        answer = handle.ask("listen", timeout_s=10.0, ports=list(ports))
        if not answer["ok"]:
            raise CiliumpyError(f"an actor cannot listen: {answer['error']}")
        first, second = answer["ports"]
        return first, second

    def play(self, action: Action) -> Played:
        """Do it and wait for its flows. CiliumpyError if that cannot be done."""
        mark = self.telescope.arrived
        answer = self._act(action)
        there = judge.conversation(action, answer)
        if action.expected.reason:
            with self._lock:
                self.expected_drops |= {there, there.back}
        enough = lambda flows: judge.enough(action, there, flows)  # noqa: E731
        # What has gone wrong already is not made right by a flow; it is shown what there is.
        patience = _AFTER_A_FAULT_S if judge.client_faults(action, answer) else self._limits.request
        flows = self.telescope.wait(there, mark, enough, min(patience, self._limits.request))
        return Played(tuple(judge.faults(action, answer, flows)), there, flows)

    def _act(self, action: Action) -> Answer:
        timeout_s = self._limits.denied if action.expected.reason else self._limits.request
        actor = self._actors[action.source.key]
        request: dict[str, Any] = {
            "family": action.family,
            "protocol": action.protocol,
            "address": action.target.addresses[action.family],
            "port": action.port,
            "name": action.name,
            "timeout_s": timeout_s,
            "from": action.source.addresses[action.family] if action.source.kind == "outside" else "",
        }
        if action.verb == FORGE:
            assert action.pretends is not None  # noqa: S101
            token = secrets.token_hex(16)
            source = action.pretends.addresses[action.family]
            answer = actor.ask("forge", token=token, source=source, **request)
            return {**answer, "ok": self._was_heard(action.target, token)} if answer["ok"] else answer
        if action.verb in ICMP_VERBS:
            return actor.ask("ping", size=0 if action.verb == BIG_PING else 56, **request)
        if action.verb.startswith("open-"):
            return actor.ask("open", **request)
        if action.verb.startswith("use-"):
            return actor.ask("exchange", **request)
        return actor.ask(action.verb, size=BULK_BYTES, **request)

    def _was_heard(self, target: Party, token: str) -> bool:
        deadline = time.monotonic() + _FORGED_S
        while time.monotonic() < deadline:
            if self._actors[target.key].ask("heard", timeout_s=1.0, token=token)["ok"]:
                return True
            time.sleep(_FORGED_S / 4)
        return False

    def let_go(self, action: Action) -> None:
        """Close a connection that was opened."""
        with suppress(CiliumpyError):
            self._actors[action.source.key].ask("close", timeout_s=1.0, name=action.name)

    def relabel(self, pod: Party, app: str = "") -> None:
        """Give a pod another label `app`; none: that which it had. CiliumpyError if that cannot be done."""
        document = self._pods[pod.key]
        labels = {"app": app} if app else document["metadata"]["labels"]
        self._cluster.apply([{**document, "metadata": {**document["metadata"], "labels": labels}}])

    def audit(self, pod: Party, *, on: bool) -> None:
        self._cluster.audit(pod.namespace, pod.key, on=on)

    def close(self) -> list[str]:
        """Take everything away, each piece whatever became of the others; return why something stays."""
        with ThreadPoolExecutor(max(1, len(self._actors))) as pool:
            list(pool.map(Handle.close, set(self._actors.values())))
        if self._telescope is not None:
            self._telescope.close()
        left = []
        steps = [self._cluster.close]
        if self._begun:
            steps.append(lambda: self._cluster.delete([_namespace(self.namespace), _namespace(self.elsewhere)]))
        for step in steps:
            try:
                step()
            except (CiliumpyError, OSError) as error:
                left.append(str(error))
        return left


def lacking(options: PolicyOptions) -> dict[str, str]:
    """PURE: return what agents with these options do not do: feature -> why. CiliumpyError if policies say nothing."""
    if options.audit_mode or options.enforcement is not Enforcement.DEFAULT:
        what = "policy.auditMode is on" if options.audit_mode else f"policy.enforcement is {options.enforcement}"
        raise CiliumpyError(
            f"what policies deny and allow cannot be tried here: {what}", "run it where agents have the default"
        )
    lacks = (
        (HOST_FIREWALL, options.host_firewall, "policy.hostFirewall is off"),
        (CLUSTER_NETWORK_POLICY, options.cluster_network_policy, "policy.clusterNetworkPolicy is off"),
        (ICMP_POLICY, options.icmp_rules, "policy.icmpRules is off"),
        (L7_POLICY, options.l7_proxy, "policy.l7Proxy is off"),
        (CIDR_OUTSIDE, not options.cidr_match_mode, "policy.cidrMatchMode is set"),
    )
    return {feature: why for feature, there, why in lacks if not there}


def _namespace(name: str) -> Mapping[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
