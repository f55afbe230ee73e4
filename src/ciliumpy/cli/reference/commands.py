# SPDX-License-Identifier: Apache-2.0
"""The reference of all commands and flags, from the command tree."""

from __future__ import annotations

from ciliumpy.cli.reference.markdown import cell
from ciliumpy.cli.tree import Flag, Node, tree

HEAD = """\
<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made from the command tree: python -m ciliumpy.cli.reference -->

# Command line

`ciliumpy NOUN VERB`. What stands under `bpf` reads the kernel's pinned maps and needs root; everything else asks the
agent over its socket. `list` is also `ls`. Completions for bash, zsh and fish: `ciliumpy completion bash`. The same as
manual pages: `man ciliumpy`. Beside it: [settings](config.md), [drop reasons](drop-reasons.md), [maps](maps.md),
[tables](tables.md).

## Which agent

`--lab NAME` asks a lab, `--node NODE` one node; these two, and `-o`, may also stand before the command. With nothing
said it is the lab that the environment names (`export CILIUMPY_LAB=NAME`), else the host's agent if there is one, else
the only lab of the machine; with several labs the command asks which.
Lists ask all nodes of a lab at once. When several are asked, they show `NODE` first and `-o name` prints `NODE:ID`,
whoever has rows; with `--node`, or in a lab of one node, neither. What belongs to the cluster and not to a node
(`node list`, and `identity list` while the nodes agree) has no such column. Verbs on one object take `NODE:ID`. A node
that does not answer within 5 s is a line on stderr, and the exit code is 1. `CILIUMPY_RUN_DIR` moves the folder in
which agents announce themselves (`/run/ciliumpy`).

## Output

`-o text` is the default; `wide` adds columns; `json` and `yaml` print everything; `jsonpath=TEMPLATE` picks, as kubectl
does (`-o jsonpath='{.items[*].id}'`, `{range .items[*]}...{end}`, `[?(@.state=="ready")]`); `name` prints names alone.
Data goes to stdout, all else to stderr. JSON is one envelope:

```json
{"apiVersion": "ciliumpy/v1", "kind": "EndpointList", "items": [{"node": "n1", "id": 4}], "errors": []}
```

`errors` has an entry `{"node", "message"}` for each node that did not answer. Keys may be added, they are not renamed.
Three commands have another form, which is as stable:

- `observe -o json` prints flows as Hubble does, one object a line: `{"flow": {...}, "node_name": "n1", "time": "..."}`,
  and `monitor --json` one event a line. [What differs from hubble](../concepts/flows.md#what-differs-from-hubble).
- `lab status -o json` is one object, `{"apiVersion": "ciliumpy/v1", "kind": "LabStatus", "name", "store", "nodes",
  "pods", "errors"}`; its `errors` are texts.

## Exit codes

| code | meaning |
|---|---|
| 0 | it went well |
| 1 | it failed, a node did not answer, or what was checked is not well |
| 2 | it was asked wrongly |
| 130, 141 | interrupted; the reader of the output has gone |

`lab exec` returns the code of the command that it ran.

## Commands
"""


def page() -> str:
    """Return the page."""
    nodes = list(tree().walk())
    verbs = [node for node in nodes if not node.children]
    index = "".join(f"| [`{' '.join(node.path[1:])}`](#{_anchor(node)}) | {node.help} |\n" for node in verbs)
    return HEAD + "\n| command | what it does |\n|---|---|\n" + index + "".join(_section(node) for node in verbs)


def _anchor(node: Node) -> str:
    return "-".join(node.path)


def _section(node: Node) -> str:
    parts = [f"\n### {' '.join(node.path)}\n", f"```\n{node.usage}\n```\n", _text(node.text)]
    if node.arguments:
        rows = "".join(f"| `{cell(each.metavar)}` | {cell(each.help)} |\n" for each in node.arguments)
        parts.append("| argument | |\n|---|---|\n" + rows)
    flags = [flag for flag in node.flags if "--help" not in flag.names]
    if flags:
        parts.append("| flag | |\n|---|---|\n" + "".join(_flag(flag) for flag in flags))
    return "\n".join(parts)


def _text(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines()) + "\n"


def _flag(flag: Flag) -> str:
    names = ", ".join(f"`{name}`" for name in flag.names)
    value = f" `{cell(flag.metavar)}`" if flag.takes_value else ""
    default = f" Default: `{flag.default}`." if flag.default else ""
    return f"| {names}{value} | {cell(flag.help)}{default} |\n"
