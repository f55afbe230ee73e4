# SPDX-License-Identifier: Apache-2.0
"""How policies are called in what is printed."""

from __future__ import annotations

from ciliumpy.cli.output import Item
from ciliumpy.model.policy_kinds import SHORT


def full_name(policy: Item) -> str:
    return f"{policy['namespace']}/{policy['name']}" if policy["namespace"] else str(policy["name"])


def typed_name(policy: Item) -> str:
    """Return what `policy get`, `wait` and `delete` take: `cnp/shop/api`, `ccnp/all`."""
    return f"{SHORT.get(policy['kind'], policy['kind'])}/{full_name(policy)}"
