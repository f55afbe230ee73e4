# SPDX-License-Identifier: Apache-2.0
"""What must not come while the kernel has no row of a prefix that it shall have. Pure.

What policies say of the prefix itself waits for it. What they say of a CIDR group does not: as long as the row is
missing its addresses meet that of a wider prefix, and this must keep the group's label till then.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from ciliumpy.model.cidr import CIDR_GROUP

if TYPE_CHECKING:
    from collections.abc import Iterable

_OF_GROUP = f"{CIDR_GROUP}:"


class Missing:
    """The prefixes of one round that the kernel did not take."""

    def __init__(self) -> None:
        self.refused: set[str] = set()  # asked for in IPCACHE, and not taken
        self.error = ""  # the first one's
        self._lacking: dict[str, set[str]] = {}  # prefix -> labels of groups that missing ones within it have

    def add(self, prefix: str, labels: Iterable[str], error: str) -> None:
        """A row is not there. `labels`: its identity's, or none if the kernel has a former row of the prefix."""
        self.error = self.error or error
        groups = {label for label in labels if label.startswith(_OF_GROUP)}
        if groups:
            network = ipaddress.ip_network(prefix)
            for length in range(network.prefixlen):
                self._lacking.setdefault(str(network.supernet(new_prefix=length)), set()).update(groups)

    def lets(self, prefix: str, labels: Iterable[str]) -> bool:
        """Whether a row may be written with these labels, or removed: then `labels` is empty."""
        return self._lacking.get(prefix, set()).issubset(labels)
