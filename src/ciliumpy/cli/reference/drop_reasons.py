# SPDX-License-Identifier: Apache-2.0
"""The reference of all drop reasons: those that the datapath gives, and those of the field that it does not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ciliumpy.bpf.build import SOURCES
from ciliumpy.cli.reference.markdown import code, head, table
from ciliumpy.model.drop_help import DROP_HELP
from ciliumpy.model.drop_reasons import DROP_REASONS

INTRODUCTION = """\
A drop is an event with a reason, and a count in `cp_metrics_v1` (`ciliumpy bpf metrics list`). Numbers, names and texts
are Cilium's: `ciliumpy monitor` prints the text, `ciliumpy observe` and Hubble's API the name. An event also says
where in the datapath's sources the packet was given up, and at which program: `pod` is the pod's own link (what it
sends, and what it gets from a pod of its node), `overlay` the tunnel device, `host` the node's link to its pods,
`netdev` its native device.

## What this datapath gives
"""


def page() -> str:
    given = emitted(SOURCES)
    rows = []
    for number, help_ in sorted(DROP_HELP.items()):
        name, text = DROP_REASONS[number]
        rows.append(
            (
                str(number),
                code(name),
                text,
                help_.meaning,
                help_.cause,
                help_.cure,
                ", ".join(help_.programs),
                ", ".join(code(file) for file in sorted(given.get(number, ()))),
            )
        )
    titles = ("number", "Hubble", "text", "meaning", "usual cause", "what to do", "program", "source")
    others = [
        (str(number), code(name), text)
        for number, (name, text) in sorted(DROP_REASONS.items())
        if number and number not in DROP_HELP
    ]
    return (
        head("Drop reasons", "the datapath's sources and model/drop_help.py")
        + INTRODUCTION
        + "\n"
        + table(titles, rows)
        + "\n## What it never gives\n\nThese are known, so that flows of others can be read.\n\n"
        + table(("number", "Hubble", "text"), others)
    )


def emitted(folder: Path) -> Mapping[int, set[str]]:
    """Return the reasons that the C sources in `folder` use besides declaring them, and the files that do."""
    block, numbers = declared(folder)
    found: dict[int, set[str]] = {}
    for file in sorted((*folder.glob("*.h"), *folder.glob("*.c"))):
        text = file.read_text(encoding="utf-8")
        if file.name == "packet.h":
            text = text.replace(block, "")
        for name in re.findall(r"\bDROP_\w+", text):
            if name in numbers:
                found.setdefault(numbers[name], set()).add(file.name)
    return found


def declared(folder: Path) -> tuple[str, dict[str, int]]:
    """Return the text that declares the reasons, and their numbers by the sources' own names."""
    block = re.search(r"enum reason \{.*?\};", (folder / "packet.h").read_text(encoding="utf-8"), re.DOTALL)
    text = block[0] if block else ""
    return text, {name: int(number) for name, number in re.findall(r"(DROP_\w+) = (\d+)", text)}
