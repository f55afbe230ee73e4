# SPDX-License-Identifier: Apache-2.0
"""The reference of all maps, from the datapath's sources: what they declare, and what their comments say."""

from __future__ import annotations

import re
from typing import NamedTuple

from ciliumpy.bpf.build import SOURCES
from ciliumpy.bpf.names import SETTINGS
from ciliumpy.cli.reference.markdown import code, head, table

AGENT = {  # the rest is written by the programs
    "cp_endpoint",
    "cp_epoch",
    "cp_epepoch",
    "cp_ipepoch",
    "cp_link",
    "cp_local",
    "cp_iphost",
    "cp_ipcidr",
    "cp_vector",
    "cp_set",
    "cp_port",
    "cp_range",
    "cp_class",
}
SCRATCH = "What is too big for a program's stack; it outlives no packet."
INTRODUCTION = """\
The datapath's maps are pinned below `maps/` in the folder `paths.bpffs`: `/sys/fs/bpf/ciliumpy/maps` on a host,
`/sys/fs/bpf/ciliumpy/labs/LAB/NODE/maps` in a lab. `ciliumpy bpf map list` shows them with their fill,
`ciliumpy bpf map dump MAP` their rows, decoded by the type information that the kernel keeps with each map. A name ends
in the version of its layout. Fields are in the machine's byte order where nothing else is said, addresses are 16 bytes
in network order, IPv4 as `::ffff:a.b.c.d`; times are the kernel's ticks divided by 256. What stands here is
`bpf/c/layout.h`, which is the one home of all layouts. Entries are those of the object; where a setting is named, the
agent takes its value.
"""


ENUM = re.compile(r"^enum \w+ \{.*?^\};", re.MULTILINE | re.DOTALL)


class DeclaredMap(NamedTuple):
    """As in maps.h: `key` and `value` are C types."""

    name: str
    kind: str
    key: str
    value: str
    entries: str


def page() -> str:
    layout = (SOURCES / "layout.h").read_text(encoding="utf-8")
    numbers = dict(re.findall(r"^#define (\w+) (\d+)", layout, re.MULTILINE))
    numbers |= dict(re.findall(r"(\w+_COUNT) = (\d+)", layout))
    about, structs = comments(layout), definitions(layout)
    maps = declared_maps()
    rows = [
        (
            code(each.name),
            each.kind,
            link(each.key, structs),
            link(each.value, structs),
            entries(each.entries, numbers),
            code(SETTINGS.get(each.name, "")),
            writer(each.name),
            about.get(each.name, SCRATCH if each.name.startswith("cp_scratch") else ""),
        )
        for each in maps
    ]
    used = sorted(reachable([*(each.key for each in maps), *(each.value for each in maps)], structs))
    titles = ("map", "type", "key", "value", "entries", "setting", "written by", "what it holds")
    text = "".join(f"\n### {name}\n\n```c\n{structs[name]}\n```\n" for name in used)
    enums = "".join(f"\n```c\n{body}\n```\n" for body in ENUM.findall(layout))
    return (
        head("Maps", "bpf/c/layout.h and maps.h")
        + INTRODUCTION
        + "\n"
        + table(titles, rows)
        + "\n## Structs\n"
        + text
        + "\n## Numbers\n"
        + enums
    )


def declared_maps() -> list[DeclaredMap]:
    """Return the maps of maps.h: those of one line in their order, then sockets' storage and the array of rings."""
    text = (SOURCES / "maps.h").read_text(encoding="utf-8")
    pattern = r"^MAP\((\w+), BPF_MAP_TYPE_(\w+), ([^,]+), ([^,]+), ([^,]+), [^)]+\);"
    found = [DeclaredMap(name, kind.lower(), *rest) for name, kind, *rest in re.findall(pattern, text, re.MULTILINE)]
    rings = re.findall(r"BPF_MAP_TYPE_ARRAY_OF_MAPS\);\s*__uint\(max_entries, (\w+)\).*?\} (\w+) SEC", text, re.DOTALL)
    sockets = re.findall(r"SK_STORAGE\);[^}]*?__type\(key, (\w+)\);\s*__type\(value, (\w+)\);\s*\} (\w+) SEC", text)
    found += [DeclaredMap(name, "sk_storage", key, value, "") for key, value, name in sockets]
    return found + [DeclaredMap(name, "array_of_maps", "__u32", "ring buffer", count) for count, name in rings]


def comments(layout: str) -> dict[str, str]:
    """Return what layout.h says of each map: the paragraph that begins with its name, or a sentence within one."""
    found: dict[str, str] = {}
    for block in re.findall(r"/\*(.*?)\*/", layout, re.DOTALL):
        lines = (line.strip().removeprefix("*").strip() for line in block.splitlines())
        for paragraph in "\n".join(lines).split("\n\n"):
            text = " ".join(paragraph.split())
            named = re.search(r"((?:cp_\w+, )*cp_\w+): (.*)", text)
            if not named:
                continue
            said = named[2] if named.start() == 0 else named[2].partition(". ")[0] + "."
            for name in named[1].split(", "):
                found[name] = (
                    re.sub(r"^[A-Z_]+(\([\dA-Z_]+\))?( of (\w+))?[,.;:] ?(NO_PREALLOC[,:] )?", "", said) or said
                )
    return found


def definitions(layout: str) -> dict[str, str]:
    """Return the structs of layout.h as they stand there, tabs as blanks."""
    found = {}
    for body in re.findall(r"^struct \w+ \{.*?^\}[^;]*;", layout, re.MULTILINE | re.DOTALL):
        found[body.split()[1]] = "\n".join(line.expandtabs(8).rstrip() for line in body.splitlines())
    return found


def reachable(types: list[str], structs: dict[str, str]) -> set[str]:
    """Return the structs that the types are or hold, at any depth."""
    found: set[str] = set()
    rest = list(types)
    while rest:
        for name in re.findall(r"struct (\w+)", rest.pop()):
            if name in structs and name not in found:
                found.add(name)
                rest.append(structs[name].partition("{")[2])
    return found


def link(c_type: str, structs: dict[str, str]) -> str:
    name = c_type.removeprefix("struct ")
    return f"[`{c_type}`](#{name})" if name in structs else code(c_type)


def entries(text: str, numbers: dict[str, str]) -> str:
    """Return a number as it stands in maps.h, worked out: `2 * MAX_ENDPOINTS` is 8192. Storage of sockets has none."""
    if not text:
        return "one a socket"
    product = 1
    for factor in text.split("*"):
        product *= int(numbers.get(factor.strip(), factor.strip()))
    return str(product)


def writer(name: str) -> str:
    plain = name.rpartition("_")[0]
    if plain.startswith("cp_ct"):
        return "programs; the agent collects expired rows"
    return "agent" if plain in AGENT else "programs"
