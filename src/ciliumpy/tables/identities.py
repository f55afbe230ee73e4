# SPDX-License-Identifier: Apache-2.0
"""All identities this node knows: reserved, allocated in the cluster, and its own of prefixes outside.

Written by identity/ alone; what is asked for, by who asks.
"""

from __future__ import annotations

import msgspec

from ciliumpy.state.table import TableSpec


class Identity(msgspec.Struct, frozen=True):
    id: int
    labels: tuple[str, ...]
    reserved: bool = False


class IdentityRequest(msgspec.Struct, frozen=True):
    """Label sets that a local endpoint needs a number for. Written by endpoints/controller.py alone."""

    labels: tuple[str, ...]


class CidrPrefix(msgspec.Struct, frozen=True):
    """A prefix that a policy or a CIDR group names: it gets an identity of this node.

    Written by enforcement/controller.py alone, and removed only when no policy set in the kernel names it.
    """

    prefix: str  # canonical: model.cidr.canonical


class PrefixIdentity(msgspec.Struct, frozen=True):
    """The identity of a prefix of CIDR_PREFIXES; one whose family is off has none."""

    prefix: str
    identity: int


class NodeIdentity(msgspec.Struct, frozen=True):
    """The identity of another node that policies can tell from others. Written by identity/remote.py alone."""

    node: str
    identity: int


class InstalledPrefix(msgspec.Struct, frozen=True):
    """A prefix that every address in it is judged by in the kernel: policy sets that name it may be written.

    Also of a prefix that needs no row, because its addresses are a node's or the cluster's, or of a family that is off.
    Written by nodes/prefixes.py alone.
    """

    prefix: str
    identity: int  # 0: it has none


IDENTITIES = TableSpec("identities", Identity, key=lambda r: r.id, indexes={"labels": lambda r: (r.labels,)})
IDENTITY_REQUESTS = TableSpec("identity-requests", IdentityRequest, key=lambda r: r.labels)
CIDR_PREFIXES = TableSpec("cidr-prefixes", CidrPrefix, key=lambda r: r.prefix)
PREFIX_IDENTITIES = TableSpec(
    "prefix-identities", PrefixIdentity, key=lambda r: r.prefix, indexes={"identity": lambda r: (r.identity,)}
)
INSTALLED_PREFIXES = TableSpec("installed-prefixes", InstalledPrefix, key=lambda r: r.prefix)
NODE_IDENTITIES = TableSpec("node-identities", NodeIdentity, key=lambda r: r.node)
