# SPDX-License-Identifier: Apache-2.0
"""All identities this node knows: reserved, and allocated in the cluster. Written by identity/controller.py alone."""

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


IDENTITIES = TableSpec("identities", Identity, key=lambda r: r.id, indexes={"labels": lambda r: (r.labels,)})
IDENTITY_REQUESTS = TableSpec("identity-requests", IdentityRequest, key=lambda r: r.labels)
