# SPDX-License-Identifier: Apache-2.0
"""All tables, in the order in which data takes its way through them: source, derived, desired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.tables.datapath import INSTALLED_SETS, INSTALLED_WIDTH, KERNEL_ENDPOINTS, NODE_ADDRESSES, ROUTES
from ciliumpy.tables.endpoints import ENDPOINTS
from ciliumpy.tables.enforcement import CALLED_PODS, POLICY_SETS, SELECTOR_BITS, VECTORS, WANTED_WIDTH
from ciliumpy.tables.identities import (
    CIDR_PREFIXES,
    IDENTITIES,
    IDENTITY_REQUESTS,
    INSTALLED_PREFIXES,
    NODE_IDENTITIES,
    PREFIX_IDENTITIES,
)
from ciliumpy.tables.ipcache import IPCACHE
from ciliumpy.tables.source import (
    CIDR_GROUPS,
    ENDPOINT_OBJECTS,
    ENDPOINT_SLICES,
    IDENTITY_OBJECTS,
    NAMESPACES,
    NODES,
    PODS,
    POLICIES,
    PROBLEMS,
    SERVICES,
)

if TYPE_CHECKING:
    from ciliumpy.state.table import TableSpec

ALL_TABLES: tuple[TableSpec[Any], ...] = (
    PODS,
    NAMESPACES,
    POLICIES,
    SERVICES,
    ENDPOINT_SLICES,
    CIDR_GROUPS,
    NODES,
    IDENTITY_OBJECTS,
    ENDPOINT_OBJECTS,
    PROBLEMS,
    ENDPOINTS,
    IDENTITY_REQUESTS,
    IDENTITIES,
    CIDR_PREFIXES,
    PREFIX_IDENTITIES,
    NODE_IDENTITIES,
    INSTALLED_PREFIXES,
    IPCACHE,
    SELECTOR_BITS,
    WANTED_WIDTH,
    INSTALLED_WIDTH,
    VECTORS,
    POLICY_SETS,
    INSTALLED_SETS,
    CALLED_PODS,
    KERNEL_ENDPOINTS,
    ROUTES,
    NODE_ADDRESSES,
)
