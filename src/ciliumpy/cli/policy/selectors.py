# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy policy selectors`."""

from __future__ import annotations

from ciliumpy.cli.options import Lab, Node, Output
from ciliumpy.cli.output import Column, Item, show
from ciliumpy.cli.query import listing
from ciliumpy.cli.selectors import selector_lines
from ciliumpy.client import target

SHOWN = 8  # identities, without -o wide
WIDTH = 6  # of them in a line


def short(policy: str) -> str:
    """Return a policy without its kind, which its name mostly makes plain: `shop/api`."""
    return policy.partition("/")[2] or policy


def numbers(selector: Item, most: int | None = SHOWN) -> list[str]:
    """Return the identities in lines; where there are more than `most`, how many more."""
    found = selector["identities"]
    shown = found if most is None else found[:most]
    lines = [" ".join(map(str, shown[n : n + WIDTH])) for n in range(0, len(shown), WIDTH)]
    return [*lines, f"and {len(found) - len(shown)} more"] if len(shown) < len(found) else lines


COLUMNS = [
    Column("SELECTOR", lambda s: selector_lines([s["selector"]])),
    Column("POLICIES", lambda s: [short(policy) for policy in s["policies"]] or "-", narrow=True),
    Column("POLICIES", lambda s: s["policies"] or "-", wide=True),
    Column("USERS", lambda s: s["users"], right=True),
    Column("IDENTITIES", numbers, narrow=True),
    Column("IDENTITIES", lambda s: numbers(s, None), wide=True),
    Column("BIT", lambda s: s["bit"], wide=True, right=True),
]


def run(lab: Lab = None, node: Node = None, output: Output = "text") -> None:
    """List the selectors of peers that the datapath knows: which policies use each, and which identities meet it.

    USERS is how many rules use a selector. One that nobody uses is about to go. The identities that -o text leaves out
    are there with -o wide and -o json.
    """
    items, errors = listing(target.select(lab, node), "/v1/selectors")
    show(
        "SelectorList",
        items,
        COLUMNS,
        output,
        name=lambda s: s["selector"],
        sort=lambda s: s["selector"],
        errors=errors,
        empty="No selectors found: no rule of a policy that selects an endpoint names a peer.",
    )
