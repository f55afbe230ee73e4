# SPDX-License-Identifier: Apache-2.0
"""Takes this node's pod CIDRs out of the cluster's pool, together with the other agents, and remembers them."""

from __future__ import annotations

import ipaddress
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from ciliumpy.ipam.allocate import choose_cidr
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ciliumpy.store.interface import Store

_log = logging.getLogger(__name__)


class PoolConfig(msgspec.Struct, frozen=True):
    """The cluster's prefix of one family, and the length of a node's part of it."""

    cidr: str
    mask: int


def claim(
    store: Store,
    name: str,
    pools: Sequence[PoolConfig],
    describe: Callable[[tuple[str, ...]], Mapping[str, Any]],
    remembered: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Return this node's pod CIDRs, one a pool, after writing them into the store under its lock.

    What the node's object has, or what it had before (`remembered`), is kept if it is still of the pool and nobody
    else's. `describe` makes the object to write from the CIDRs. CiliumpyError: a pool is empty, the store unreadable.
    """
    with store.transaction() as txn:
        nodes = {stored.key.name: _cidrs(stored.document) for stored in txn.list("CiliumNode")}
        mine = [*nodes.pop(name, []), *remembered]
        taken = [cidr for cidrs in nodes.values() for cidr in cidrs]
        claimed = tuple(_keep(pool, mine, taken) or choose_cidr(pool.cidr, pool.mask, taken) for pool in pools)
        txn.put(describe(claimed))
    return claimed


def _keep(pool: PoolConfig, mine: Sequence[str], taken: Sequence[str]) -> str | None:
    network = ipaddress.ip_network(pool.cidr)
    others = [other for other in map(ipaddress.ip_network, taken) if other.version == network.version]
    for text in mine:
        candidate = ipaddress.ip_network(text)
        if candidate.version != network.version or candidate.prefixlen != pool.mask:
            continue
        inside = int(network.network_address) <= int(candidate.network_address) <= int(network.broadcast_address)
        if inside and not any(candidate.overlaps(other) for other in others):
            return text
    return None


def _cidrs(document: Mapping[str, Any]) -> list[str]:
    """Return the pod CIDRs of a CiliumNode; what is no prefix takes no room."""
    spec = document.get("spec")
    ipam = spec.get("ipam") if isinstance(spec, dict) else None
    cidrs = ipam.get("podCIDRs") if isinstance(ipam, dict) else None
    found = []
    for text in cidrs if isinstance(cidrs, list) else []:
        try:
            found.append(str(ipaddress.ip_network(text)))
        except ValueError:
            _log.warning("a node has the pod CIDR %r, which is no prefix", text)
    return found


class Memory:
    """The node's pod CIDRs on disk, for a start without the store."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> tuple[str, ...]:
        try:
            cidrs = msgspec.json.decode(self._path.read_bytes(), type=tuple[str, ...])
            return tuple(str(ipaddress.ip_network(cidr)) for cidr in cidrs)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, msgspec.DecodeError) as error:
            _log.warning("%s cannot be read: %s", self._path, error)
            return ()

    def save(self, cidrs: tuple[str, ...]) -> None:
        temporary = self._path.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.encode(cidrs))
        temporary.replace(self._path)


def fits(pools: Sequence[PoolConfig], cidrs: Sequence[str]) -> bool:
    """Tell whether remembered CIDRs are one of each pool."""
    return len(cidrs) == len(pools) and all(_keep(pool, cidrs, ()) for pool in pools)


def pod_cidrs(
    store: Store,
    name: str,
    pools: Sequence[PoolConfig],
    describe: Callable[[tuple[str, ...]], Mapping[str, Any]],
    memory: Memory,
) -> tuple[str, ...]:
    """Claim, and remember. With the store unreadable what is remembered counts: pods keep running through that."""
    remembered = memory.load()
    try:
        claimed = claim(store, name, pools, describe, remembered)
    except CiliumpyError as error:
        if not fits(pools, remembered):
            raise
        _log.warning("%s; this node goes on with its pod CIDRs %s", error.message, ", ".join(remembered))
        return remembered
    try:
        memory.save(claimed)
    except OSError as error:
        _log.warning("the node's pod CIDRs cannot be remembered: %s", error)
    return claimed
