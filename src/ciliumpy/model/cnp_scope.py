# SPDX-License-Identifier: Apache-2.0
"""Where in a policy a rule stands, and what becomes of the parts that this version does not support."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ciliumpy.model.rule import Notice
from ciliumpy.model.verdicts import Direction

if TYPE_CHECKING:
    from ciliumpy.model.errors import Path


class Scope:
    """One list of rules (ingress, egressDeny, ...) of one spec while it is decoded; collects the notices."""

    def __init__(self, notices: list[Notice], *, namespace: str | None, cluster: str, node: bool = False) -> None:
        self.notices = notices
        self.namespace = namespace  # None: cluster-wide
        self.cluster = cluster
        self.node = node  # the subject is a node
        self.direction = Direction.INGRESS
        self.deny = False
        self.closed = False  # an unsupported part was met: the direction is closed, whatever enableDefaultDeny says

    def enter(self, direction: Direction, *, deny: bool) -> None:
        self.direction, self.deny, self.closed = direction, deny, False

    def notice(self, path: Path, message: str) -> None:
        self.closed = True
        self.notices.append(Notice(path, message))

    def unsupported(self, path: Path, what: str, *, instead: str) -> bool:
        """Whether the part must be taken as wide as `instead`, because it denies; else it grants nothing."""
        effect = f"{instead} denied instead" if self.deny else "grants nothing"
        self.notice(path, f"{what} is not supported by this version: {effect}")
        return self.deny
