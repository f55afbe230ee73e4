# SPDX-License-Identifier: Apache-2.0
"""The flags that many verbs share, so that they are spelt and explained alike."""

from __future__ import annotations

from typing import Annotated

import typer

FORMATS = "text|wide|json|yaml|jsonpath=…|name"

Lab = Annotated[
    str | None,
    typer.Option("--lab", metavar="NAME", help="Ask this lab; else $CILIUMPY_LAB, the host's agent, the only lab."),
]
Node = Annotated[str | None, typer.Option("--node", metavar="NODE", help="Ask this node's agent only.")]
Output = Annotated[str, typer.Option("--output", "-o", metavar=FORMATS, help="How to print.")]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", metavar="NAMESPACE", help="Only this namespace.")]
Labels = Annotated[
    list[str], typer.Option("--labels", "-l", metavar="LABEL", help="Only with this label (repeated: with all).")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", "--force", "-f", help="Do not ask.")]
