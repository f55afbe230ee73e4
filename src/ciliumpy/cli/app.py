# SPDX-License-Identifier: Apache-2.0
"""The table of all verbs, and the groups that load a verb's module only when it is called.

A verb is a module with a function `run`: its annotations are the flags, its docstring the long help. A module may set
`CONTEXT`, typer's context settings, for verbs that pass arguments on (`lab exec`), and `COMMAND`, a class of its own.
Help of a group comes from this table alone, so that it imports nothing. Every `list` is also `ls`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

import typer
import typer.core
import typer.main

from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter


class Verb(NamedTuple):
    """One command: the module that holds `run`, and one line of help."""

    module: str
    help: str


class Group(NamedTuple):
    """A noun: its verbs by name. `default` is the verb that is meant where none is said, `assign` by KEY=VALUE."""

    help: str
    verbs: Mapping[str, Verb | Group]
    default: str = ""
    assign: str = ""


BPF = {
    "map": Group(
        "Any pinned BPF map.",
        {
            "list": Verb("ciliumpy.cli.bpf.map_list", "List the pinned maps with their fill."),
            "dump": Verb("ciliumpy.cli.bpf.map_dump", "Print a map, decoded by its own type information."),
            "get": Verb("ciliumpy.cli.bpf.map_get", "Show what a map is, or one row of it."),
        },
    ),
    "ct": Group(
        "Connection tracking.",
        {
            "list": Verb("ciliumpy.cli.bpf.ct_list", "List the flows the datapath knows."),
            "get": Verb("ciliumpy.cli.bpf.ct_get", "Show the flows between two ends."),
            "flush": Verb("ciliumpy.cli.bpf.ct_flush", "Forget flows: they are judged anew."),
        },
    ),
    "endpoint": Group(
        "The datapath's endpoints.",
        {
            "list": Verb("ciliumpy.cli.bpf.endpoint_list", "List the endpoints as the datapath has them."),
            "get": Verb("ciliumpy.cli.bpf.endpoint_get", "Show one endpoint as the datapath has it."),
        },
    ),
    "ipcache": Group(
        "Addresses and identities.",
        {
            "list": Verb("ciliumpy.cli.bpf.ipcache_list", "List which identity each address has, and where it is."),
            "get": Verb("ciliumpy.cli.bpf.ipcache_get", "Show which entry decides on an address."),
            "match": Verb("ciliumpy.cli.bpf.ipcache_match", "List the addresses that have an identity."),
        },
    ),
    "identity": Group(
        "Identities and the selectors they meet.",
        {
            "list": Verb("ciliumpy.cli.bpf.identity_list", "List which selectors each identity meets."),
            "get": Verb("ciliumpy.cli.bpf.identity_get", "Show which selectors one identity meets."),
        },
    ),
    "config": Group(
        "What the programs were told.",
        {"list": Verb("ciliumpy.cli.bpf.config_list", "List the constants the programs were loaded with.")},
    ),
    "frag": Group(
        "Datagrams in fragments.",
        {"list": Verb("ciliumpy.cli.bpf.frag_list", "List the datagrams whose fragments are followed.")},
    ),
    "metrics": Group(
        "Packets forwarded and dropped.",
        {
            "list": Verb("ciliumpy.cli.bpf.metrics_list", "List packets forwarded, and dropped by reason."),
            "get": Verb("ciliumpy.cli.bpf.metrics_get", "Show the packets dropped for one reason."),
        },
    ),
    "policy": Group(
        "Policy as the datapath judges by it.",
        {
            "list": Verb("ciliumpy.cli.bpf.policy_list", "List each policy set: direction, port, verdict, peers."),
            "get": Verb("ciliumpy.cli.bpf.policy_get", "Show what one endpoint is judged by."),
        },
    ),
}

HUBBLE: Mapping[str, Verb | Group] = {
    "observe": Verb("ciliumpy.cli.observe.flows", "Show flows: as `ciliumpy observe`."),
    "status": Verb("ciliumpy.cli.hubble.status", "Show how Hubble's servers are, and how many flows they keep."),
    "list": Group(
        "What Hubble's servers know.",
        {
            "nodes": Verb("ciliumpy.cli.hubble.nodes", "List the servers with their uptime and flows."),
            "namespaces": Verb("ciliumpy.cli.hubble.namespaces", "List the namespaces seen in the last hour's flows."),
        },
    ),
    "watch": Group(
        "What Hubble's servers tell of.",
        {"peers": Verb("ciliumpy.cli.hubble.peers", "Show the nodes that a server names, and what changes.")},
    ),
}

LAB = {
    "demo": Verb("ciliumpy.cli.lab.demo", "Start the demo: two nodes, a policy, traffic, and what is seen of it."),
    "up": Verb("ciliumpy.cli.lab.up", "Start a lab cluster, or bring it to what its file says."),
    "status": Verb("ciliumpy.cli.lab.status", "Show the lab's nodes and pods."),
    "apply": Verb("ciliumpy.cli.lab.apply", "Apply manifests to the lab."),
    "delete": Verb("ciliumpy.cli.lab.delete", "Delete objects from the lab."),
    "exec": Verb("ciliumpy.cli.lab.exec", "Run a command in a pod."),
    "run": Verb("ciliumpy.cli.lab.run", "Run a command, or a shell, in a new pod."),
    "logs": Verb("ciliumpy.cli.lab.logs", "Print what a pod's containers, or a node's agent, wrote."),
    "start": Verb("ciliumpy.cli.lab.start", "Start the agents, or one node's."),
    "stop": Verb("ciliumpy.cli.lab.stop", "Stop the agents, or one node's; the pods run on."),
    "down": Verb("ciliumpy.cli.lab.down", "Stop the lab and remove everything it made."),
}

CONNECTIVITY = {
    "test": Verb("ciliumpy.cli.connectivity", "Try what policies allow and deny, with real clients in pods."),
}

ROOT: Mapping[str, Mapping[str, Verb | Group]] = {
    "Look": {
        "status": Verb("ciliumpy.cli.status", "Show how the agents are."),
        "observe": Verb("ciliumpy.cli.observe.flows", "Show flows: who talked to whom, and what was dropped."),
        "hubble": Group("What users of hubble type, of the same agents.", HUBBLE),
        "monitor": Verb("ciliumpy.cli.monitor", "Show the datapath's events as they come."),
        "endpoint": Group(
            "The pods that an agent has plugged in.",
            {
                "list": Verb("ciliumpy.cli.endpoint.list", "List the endpoints."),
                "get": Verb("ciliumpy.cli.endpoint.get", "Show one endpoint."),
                "config": Verb("ciliumpy.cli.endpoint.config", "Show or change an endpoint's options."),
            },
        ),
        "identity": Group(
            "Security identities.",
            {
                "list": Verb("ciliumpy.cli.identity.list", "List the identities and their labels."),
                "get": Verb("ciliumpy.cli.identity.get", "Show one identity."),
            },
        ),
        "policy": Group(
            "The policies in force.",
            {
                "list": Verb("ciliumpy.cli.policy.list", "List the policies, and what of them has no effect."),
                "get": Verb("ciliumpy.cli.policy.get", "Show one policy as the agent has understood it."),
                "selectors": Verb("ciliumpy.cli.policy.selectors", "List who meets which selector of a policy."),
                "import": Verb("ciliumpy.cli.policy.import_", "Put policies into the store: all, or none of them."),
                "delete": Verb("ciliumpy.cli.policy.delete", "Take policies out of the store."),
                "wait": Verb("ciliumpy.cli.policy.wait", "Wait until policies are in force on all nodes."),
                "validate": Verb(
                    "ciliumpy.cli.policy.validate", "Check manifests without an agent: every fault at once."
                ),
            },
        ),
        "ip": Group(
            "Which identity each address has.",
            {
                "list": Verb("ciliumpy.cli.ip.list", "List the addresses with their identity and place."),
                "get": Verb("ciliumpy.cli.ip.get", "Show which entry decides on an address."),
            },
        ),
        "node": Group(
            "The nodes of the cluster.",
            {"list": Verb("ciliumpy.cli.node.list", "List the nodes, their addresses and pod ranges.")},
        ),
    },
    "Kernel": {
        "bpf": Group("Read the pinned BPF maps directly (root).", BPF),
        "preflight": Verb("ciliumpy.cli.preflight", "Check what this machine has against what is needed."),
    },
    "Lab": {
        "lab": Group("A cluster on this machine: nodes and pods in namespaces (root).", LAB),
        "connectivity": Group("Does the network do what policies say?", CONNECTIVITY),
    },
    "Tool": {
        "statedb": Group(
            "The agent's tables as they are.",
            {
                "tables": Verb("ciliumpy.cli.statedb.tables", "List the tables with their row counts."),
                "dump": Verb("ciliumpy.cli.statedb.dump", "Print the rows of a table."),
                "watch": Verb("ciliumpy.cli.statedb.watch", "Print the rows of a table, and then what changes."),
            },
        ),
        "config": Group(
            "The agents' settings.",
            {
                "list": Verb("ciliumpy.cli.config.list", "List the settings, and where each came from."),
                "get": Verb("ciliumpy.cli.config.get", "Show the value of one setting."),
                "set": Verb("ciliumpy.cli.config.set", "Change a setting while the agents run."),
                "explain": Verb("ciliumpy.cli.config.explain", "Explain a setting, and why it is what it is."),
            },
            default="list",
            assign="set",
        ),
        "completion": Verb("ciliumpy.cli.completion", "Print the completion script of a shell."),
        "version": Verb("ciliumpy.cli.version", "Print the version of this command and of the agents."),
    },
}

ALIASES = {"ls": "list"}
HELP = ("-h", "--help")
EVERYWHERE = ("--lab", "--node", "--output", "-o")  # flags that may also stand before the verb


class LazyGroup(typer.core.TyperGroup):
    """A group over a part of the table."""

    def __init__(self, name: str, help_text: str, sections: Mapping[str, Mapping[str, Verb | Group]]) -> None:
        super().__init__(name=name, help=help_text, rich_markup_mode=None)
        self.sections = sections
        self.entries = {name: entry for verbs in sections.values() for name, entry in verbs.items()}

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002
        return list(self.entries)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # noqa: ARG002
        name = cmd_name if cmd_name in self.entries else ALIASES.get(cmd_name, cmd_name)
        entry = self.entries.get(name)
        if entry is None:
            return None
        if isinstance(entry, Group):
            return LazyGroup(name, entry.help, {"Commands": entry.verbs})
        return load(name, entry)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            sys.stdout.write(ctx.get_help() + "\n")
            ctx.exit(0)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and name not in self.entries and ALIASES.get(name) not in self.entries:
            near = get_close_matches(name, self.entries)
            meant = f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
            if not near and "get" in self.entries and not name.isalpha():  # as `ciliumpy ip 10.244.1.7`
                meant = f"; did you mean 'get {name}'?"
            ctx.fail(f"there is no command {name!r} in `{ctx.command_path}`{meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002
        width = max(map(len, self.entries))
        for section, entries in self.sections.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), entry.help) for name, entry in entries.items()])


def in_order(args: Sequence[str]) -> list[str]:
    """Return the arguments with the flags of EVERYWHERE that stand before the verb put behind it.

    Where the words name a group and no verb, its default is put in. CiliumpyError (2) if a flag's value is missing.
    """
    rest, path, flags = list(args), list[str](), list[str]()
    entry: Verb | Group = Group("", {name: entry for verbs in ROOT.values() for name, entry in verbs.items()})
    while rest and isinstance(entry, Group):
        word = rest[0]
        if word in EVERYWHERE:
            if len(rest) == 1:
                raise CiliumpyError(f"{word} wants a value", "`ciliumpy --help` tells more", 2)
            flags += rest[:2]
            del rest[:2]
        elif word.startswith(tuple(f"{flag}=" for flag in EVERYWHERE)) or (word[:2] == "-o" and len(word) > 2):
            flags.append(rest.pop(0))
        elif word in entry.verbs or ALIASES.get(word) in entry.verbs:
            entry = entry.verbs.get(word) or entry.verbs[ALIASES[word]]
            path.append(rest.pop(0))
        else:
            break
    if isinstance(entry, Group):
        own = not rest or (rest[0].startswith("-") and rest[0] not in HELP)
        meant = entry.default if own else entry.assign if "=" in rest[0] else ""
        return [*path, meant, *flags, *rest] if meant else [*path, *rest]
    return [*path, *flags, *rest]


def load(name: str, verb: Verb) -> Command:
    """Import a verb's module and make its command."""
    module = import_module(verb.module)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    settings = {"help_option_names": ["-h", "--help"], **getattr(module, "CONTEXT", {})}
    kind = getattr(module, "COMMAND", None)
    app.command(name=name, cls=kind, context_settings=settings)(module.run)
    return typer.main.get_command(app)


def root() -> LazyGroup:
    """Return the command tree; nothing but this module is loaded for it."""
    group = LazyGroup("ciliumpy", "eBPF networking, identity-based policy and flow observability.", ROOT)
    group.context_settings = {"help_option_names": ["-h", "--help"]}
    group.epilog = (
        "`ciliumpy COMMAND --help` tells more. `--lab`, `--node` and `-o` may also stand before it. "
        "Exit codes: 0 well, 1 failed, 2 asked wrongly."
    )
    return group
