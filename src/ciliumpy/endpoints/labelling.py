# SPDX-License-Identifier: Apache-2.0
"""The identity labels of this node's pods: from the store, and, where CIDRs match pods too, of named prefixes.

A pod has the label of the longest prefix that a policy or a CIDR group names and that contains its address.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ciliumpy.model.cidr import CIDR_GROUP, Groups
from ciliumpy.model.labels import LabelFilter, parse, pod_labels
from ciliumpy.model.selectors import CIDR
from ciliumpy.policy.prefixes import Longest, inside_labels
from ciliumpy.state.observer import wait_any
from ciliumpy.tables.identities import CIDR_PREFIXES
from ciliumpy.tables.source import CIDR_GROUPS, NAMESPACES, PODS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from ciliumpy.state.database import Database
    from ciliumpy.tables.endpoints import Endpoint
    from ciliumpy.tables.source import Pod

INIT_LABELS = ("reserved:init",)
POD_WAIT_S = 5.0
_OF_PREFIXES = (CIDR, CIDR_GROUP)

_log = logging.getLogger(__name__)


class Labelling:
    """`match_pods`: CIDRs match pods too. `run` is then a job; until it has begun every endpoint keeps what it had."""

    def __init__(
        self,
        db: Database,
        *,
        cluster: str = "default",
        keep: LabelFilter | None = None,
        fixed: Collection[str] = (),
        match_pods: bool = False,
    ) -> None:
        self._db = db
        self._cluster = cluster
        self._keep = keep or LabelFilter()
        self._fixed = fixed
        self._match_pods = match_pods
        self._named: Longest | None = None
        self._groups = Groups()

    async def wait(self, namespace: str, name: str) -> tuple[str, ...]:
        """Return the labels of a pod; one that the store does not tell of within five seconds is `reserved:init`."""
        pods = self._db.table(PODS)
        pod = pods.get((namespace, name))
        if pod is None:
            loop = asyncio.get_running_loop()
            until = loop.time() + POD_WAIT_S
            observer = pods.observe("add")
            try:
                while pod is None and loop.time() < until:
                    observer.take()
                    await wait_any(observer, timeout_s=until - loop.time())
                    pod = pods.get((namespace, name))
            finally:
                observer.close()
        if pod is None:
            _log.warning("pod %s/%s is unknown: plugged in as reserved:init", namespace, name)
            return INIT_LABELS
        return self._own(pod)

    def labels(self, pod: Pod, row: Endpoint) -> tuple[str, ...]:
        """Return the labels that the endpoint of a pod shall have now."""
        return self.with_prefixes(self._own(pod), row)

    def with_prefixes(self, labels: tuple[str, ...], row: Endpoint) -> tuple[str, ...]:
        """Return the labels with those of the prefixes that the endpoint lies in. Reserved and fixed ones stay."""
        if not self._match_pods or any(text.startswith("reserved:") for text in labels):
            return labels
        if self._named is None:
            added = tuple(text for text in row.labels if parse(text).source in _OF_PREFIXES)
        else:
            added = inside_labels([ip for ip in (row.ipv4, row.ipv6) if ip], self._named, self._groups)
        return tuple(sorted({*labels, *added}))

    async def run(self, named: asyncio.Event, relabel: Callable[[], Awaitable[None]]) -> None:
        """Begin when CIDR_PREFIXES has all prefixes that are `named`; `relabel` asks for every endpoint's labels."""
        await named.wait()
        prefixes = self._db.table(CIDR_PREFIXES).observe("prefixes of pods")
        groups = self._db.table(CIDR_GROUPS).observe("prefixes of pods")
        try:
            while True:
                prefixes.take()
                for change in groups.take():
                    if change.deleted:
                        self._groups.remove(change.row.name)
                    else:
                        self._groups.set(change.row.name, dict(change.row.labels), change.row.prefixes)
                self._named = Longest(row.prefix for row in self._db.table(CIDR_PREFIXES).all())
                await relabel()
                await wait_any(prefixes, groups)
        finally:
            prefixes.close()
            groups.close()

    def _own(self, pod: Pod) -> tuple[str, ...]:
        namespace = self._db.table(NAMESPACES).get(pod.namespace)
        return pod_labels(
            pod.namespace,
            pod.labels,
            namespace_labels=namespace.labels if namespace else (),
            service_account=pod.service_account,
            cluster=self._cluster,
            keep=self._keep,
            fixed=self._fixed,
        )
