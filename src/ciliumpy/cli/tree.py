# SPDX-License-Identifier: Apache-2.0
"""The whole command tree with every flag, for completions and the reference: it loads every verb's module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ciliumpy.cli.app import LazyGroup, root

FILE_METAVARS = ("FILE", "FILE|DIR|-", "FILE|DIR|-...", "PATH", "[PATH]", "FOLDER")


DYNAMIC = {  # metavar: kind of names (cli/names.py)
    "NODE": "nodes",
    "[NODE...]": "nodes",
    "NODE|[NAMESPACE/]POD": "nodes-or-pods",
    "ENDPOINT": "endpoints-or-pods",
    "ENDPOINT|SET": "endpoints-or-pods",
    "[ENDPOINT|SET]": "endpoints-or-pods",
    "[NODE:]ID": "endpoints",
    "[NODE:]ID|ADDRESS": "endpoints",
    "ID[,ID…]": "endpoints",
    "[NAMESPACE/]POD": "pods",
    "[NAMESPACE/]PREFIX": "pods",
    "[KIND/][NAMESPACE/]NAME": "policies",
    "[[KIND/][NAMESPACE/]NAME...]": "policies",
    "[[KIND/][NAMESPACE/]NAME|N]": "policies",
    "NAMESPACE": "namespaces",
    "ID": "identities",
    "IDENTITY": "identities",
    "ADDRESS": "addresses",
    "ADDRESS[:PORT]": "addresses",
    "[ADDRESS[:PORT]]": "addresses",
    "MAP": "maps",
    "TABLE": "tables",
    "KEY": "settings",
    "REASON": "reasons",
}


class Flag(NamedTuple):
    """`names` as they are typed; `choices` of the value if it has a fixed set; `takes_value` false for a switch.

    `dynamic`: the kind of names that the value is one of, if those are known only when it is typed.
    """

    names: tuple[str, ...]
    metavar: str
    help: str
    takes_value: bool
    choices: tuple[str, ...]
    default: str
    dynamic: str = ""


class Argument(NamedTuple):
    metavar: str
    help: str
    choices: tuple[str, ...]
    dynamic: str = ""
    repeated: bool = False


class Node(NamedTuple):
    """A group (with `children`) or a verb (with flags and arguments). `path` begins with the program's name."""

    path: tuple[str, ...]
    help: str
    text: str
    usage: str
    children: tuple[Node, ...]
    flags: tuple[Flag, ...]
    arguments: tuple[Argument, ...]

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            yield from child.walk()


FORMATS = ("text", "wide", "json", "yaml", "jsonpath=", "name")
ANYWHERE = (  # what stands before a verb: app.EVERYWHERE
    Flag(("--lab",), "NAME", "Ask this lab.", takes_value=True, choices=(), default="", dynamic="labs"),
    Flag(("--node",), "NODE", "Ask this node's agent only.", takes_value=True, choices=(), default="", dynamic="nodes"),
    Flag(("--output", "-o"), "FORMAT", "How to print.", takes_value=True, choices=FORMATS, default=""),
)


def tree() -> Node:
    return _node(root(), ("ciliumpy",), "", None)


def _node(command: Any, path: tuple[str, ...], line: str, parent: Any) -> Node:
    context = command.make_context(path[-1], [], parent=parent, resilient_parsing=True)
    children: list[Node] = []
    if isinstance(command, LazyGroup):
        for name, entry in command.entries.items():
            children.append(_node(command.get_command(context, name), (*path, name), entry.help, context))
    params = command.get_params(context)
    everywhere = ANYWHERE if children else ()
    return Node(
        path,
        line or command.help or "",
        command.help or "",
        command.get_usage(context).removeprefix("Usage: "),
        tuple(children),
        everywhere
        + tuple(_flag(each, context) for each in params if each.param_type_name == "option" and not each.hidden),
        tuple(_argument(each, path) for each in params if each.param_type_name == "argument" and not each.hidden),
    )


def _flag(option: Any, context: Any) -> Flag:
    names = tuple(sorted([*option.opts, *option.secondary_opts], key=lambda name: (not name.startswith("--"), name)))
    record = option.get_help_record(context)
    switch = bool(option.is_flag) or option.count
    metavar = "" if switch else option.make_metavar(context)
    default = option.default
    shown = "" if default in (None, False, "", []) or switch or callable(default) else str(default)
    text = option.help or (record[1] if record else "")
    kind = {"--lab": "labs", "--drop-reason-desc": "reasons"}.get(names[0], "") or DYNAMIC.get(metavar, "")
    return Flag(names, metavar, text, not switch, () if kind else choices(option, metavar), shown, kind)


def _argument(argument: Any, path: tuple[str, ...]) -> Argument:
    metavar = argument.metavar or argument.name.upper()
    kind = DYNAMIC.get(metavar, "")
    if path[1:] == ("policy", "get"):
        kind = "policies"
    elif path[1:] == ("lab", "down"):
        kind = "labs"
    found = () if kind else choices(argument, metavar)
    return Argument(metavar, argument.help or "", found, kind, argument.nargs == -1)


def choices(param: Any, metavar: str) -> tuple[str, ...]:
    """Return the values that a parameter can have: its type's, or those that its metavar lists as `a|b|c`."""
    named = getattr(param.type, "choices", None)
    if named:
        return tuple(str(getattr(each, "value", each)) for each in named)
    parts = metavar.strip("[]").split("|") if metavar not in FILE_METAVARS else ()
    return tuple(part.replace("…", "") for part in parts) if len(parts) > 1 else ()
