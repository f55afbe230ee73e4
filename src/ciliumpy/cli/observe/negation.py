# SPDX-License-Identifier: Apache-2.0
"""`--not`: it turns the meaning of the one filter that comes next."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import typer.core

from ciliumpy.cli.observe.filters import is_filter, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typer._click import Context

Occurrence = tuple[str, int]
"""A parameter's name, and how many times it was given before: its place in the list of its values."""

META = "ciliumpy.negated"
NOT = "negate"  # the parameter of --not
NAMES = {"kind": "type"}  # parameters that could not be named as their flag


def negated(order: Iterable[str]) -> set[Occurrence]:
    """Return which filters stand behind a --not; `order` is the names of all parameters as they were given.

    CiliumpyError for a --not without a filter.
    """
    found: set[Occurrence] = set()
    given: Counter[str] = Counter()
    waiting = False
    for raw in order:
        name = NAMES.get(raw, raw)
        if name == NOT:
            if waiting:
                raise refuse("consecutive --not statements")
            waiting = True
            continue
        if waiting and not is_filter(name):
            raise refuse(f"--not before --{name.replace('_', '-')}, which is no filter")
        if waiting:
            found.add((name, given[name]))
        waiting = False
        given[name] += 1
    if waiting:
        raise refuse("trailing --not found in the arguments")
    return found


class NegatingCommand(typer.core.TyperCommand):
    """A command that remembers in its context's `meta` which filters were negated: parameters have no order."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        order: list[Any] = self.make_parser(ctx).parse_args(args=list(args))[2]
        if not ctx.resilient_parsing:
            ctx.meta[META] = negated(parameter.name for parameter in order)
        return super().parse_args(ctx, args)
