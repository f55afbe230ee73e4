# SPDX-License-Identifier: Apache-2.0
"""PURE: what users call kinds, and what they may put into the store through an agent."""

from __future__ import annotations

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.policy_kinds import SHORT
from ciliumpy.store.kinds import KINDS, POLICY_KINDS

IMPORTED = (*POLICY_KINDS, "CiliumCIDRGroup")  # a policy names groups, and is nothing without them


def kind_of_word(word: str) -> str:
    """Return the kind meant by `cnp`, `ciliumnetworkpolicies`, `CiliumNetworkPolicy`. CiliumpyError (2) if none is."""
    lower = word.lower()
    for kind in IMPORTED:
        if lower in (kind.lower(), KINDS[kind].plural, SHORT[kind]):
            return kind
    known = ", ".join(SHORT[kind] for kind in IMPORTED)
    raise CiliumpyError(f"there is no kind {word!r} of policy", f"kinds: {known}", 2)
