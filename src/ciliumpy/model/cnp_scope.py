# SPDX-License-Identifier: Apache-2.0
"""Where in a policy a rule stands, what its selectors get added, and what there is to say about it."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from ciliumpy.model.label_selectors import decode_selector
from ciliumpy.model.labels import SOURCES
from ciliumpy.model.rule import Notice
from ciliumpy.model.verdicts import Direction

if TYPE_CHECKING:
    from ciliumpy.model.errors import Path
    from ciliumpy.model.options import PolicyOptions
    from ciliumpy.model.selectors import Requirement


class Scope:
    """One list of rules (ingress, egressDeny, ...) of one spec while it is decoded; collects the notices."""

    def __init__(self, options: PolicyOptions, notices: list[Notice], namespace: str | None) -> None:
        self.options = options
        self.notices = notices
        self.namespace = namespace  # None: cluster-wide
        self.node = False  # the subject is a node
        self.init = False  # the subject is pods whose labels are not known yet
        self.direction = Direction.INGRESS
        self.deny = False
        self.closed = False  # a part was met that nothing can meet: the direction is closed, whatever else is said

    @property
    def prefix(self) -> str:
        """What the names of the fields for peers begin with."""
        return "from" if self.direction is Direction.INGRESS else "to"

    def enter(self, direction: Direction, *, deny: bool) -> None:
        self.direction, self.deny, self.closed = direction, deny, False

    def notice(self, path: Path, message: str) -> None:
        self.notices.append(Notice(path, message))

    def selector(self, value: Any, path: Path) -> tuple[Requirement, ...]:
        """The requirements of a label selector as written; says which of them nobody can meet."""
        found = decode_selector(value, path)
        for requirement in found:
            if requirement.source not in SOURCES:
                close = difflib.get_close_matches(requirement.source, SOURCES, n=1)
                hint = f", did you mean {close[0]}:{requirement.key}?" if close else ""
                self.notice(path, f"no label has the source {requirement.source!r}{hint}")
        return found
