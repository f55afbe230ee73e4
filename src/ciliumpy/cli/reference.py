# SPDX-License-Identifier: Apache-2.0
"""docs/reference/cli.md, made from the command tree. `python -m ciliumpy.cli.reference [FILE]` writes it."""

from __future__ import annotations

import sys
from pathlib import Path

from ciliumpy.cli.tree import Flag, Node, tree

FILE = Path("docs/reference/cli.md")

HEAD = """\
<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made from the command tree: python -m ciliumpy.cli.reference -->

# Command line

`ciliumpy NOUN VERB`. What stands under `bpf` reads the kernel's pinned maps and needs root; everything else asks the
agent over its socket. `list` is also `ls`. Completions for bash and zsh: `ciliumpy completion bash`.

## Which agent

`--lab NAME` asks a lab, `--node NODE` one node. With nothing said it is the host's agent if there is one, else the only
lab of the machine; with several labs the command asks which. Lists ask all nodes of a lab. When several are asked, they
show `NODE` first and `-o name` prints `NODE:ID`, whoever has rows; with `--node`, or in a lab of one node, neither.
What belongs to the cluster and not to a node (`node list`, and `identity list` while the nodes agree) has no such
column. Verbs on one object take `NODE:ID`. A node that does not answer is a line on stderr, and the exit code is 1.
`CILIUMPY_RUN_DIR` moves the folder in which agents announce themselves (`/run/ciliumpy`).

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


def reference() -> str:
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
        rows = "".join(f"| `{_cell(each.metavar)}` | {_cell(each.help)} |\n" for each in node.arguments)
        parts.append("| argument | |\n|---|---|\n" + rows)
    flags = [flag for flag in node.flags if "--help" not in flag.names]
    if flags:
        parts.append("| flag | |\n|---|---|\n" + "".join(_flag(flag) for flag in flags))
    return "\n".join(parts)


def _text(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines()) + "\n"


def _flag(flag: Flag) -> str:
    names = ", ".join(f"`{name}`" for name in flag.names)
    value = f" `{_cell(flag.metavar)}`" if flag.takes_value else ""
    default = f" Default: `{flag.default}`." if flag.default else ""
    return f"| {names}{value} | {_cell(flag.help)}{default} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(reference(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
