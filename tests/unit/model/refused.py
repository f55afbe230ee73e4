# SPDX-License-Identifier: Apache-2.0
"""The corpus of malformed policies: tests/data/refused/*.txt, and what of it the reference manual shows.

A section `## ingress` says where its snippets stand, `## ingress, l7Proxy: false` with which options. A snippet is a
line; where it is made of fields, `; ` is between them. The indented line below it is the whole error. Those with a star
before them are in docs/reference/policy-language.md too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ciliumpy.model.cnp import decode_policy
from ciliumpy.model.errors import FieldError
from ciliumpy.model.option_names import from_document
from ciliumpy.model.options import PolicyOptions

FOLDER = Path(__file__).parents[2] / "data" / "refused"
INDENT = "    "
STAR = "* "
_PEERS = 'endpointSelector: {}, ingress: [{fromEntities: [all], toPorts: [{ports: [{port: "80", protocol: TCP}], %s}]}]'
_WRAPPED = {
    "document": "%s",
    "spec": "spec: {endpointSelector: {}, ingress: [{}], %s}",
    "clusterwide": "kind: CiliumClusterwideNetworkPolicy, spec: {%s}",
    "endpointSelector": "spec: {ingress: [{}], endpointSelector: %s}",
    **{
        name: f"spec: {{endpointSelector: {{}}, {name}: [{{%s}}]}}"
        for name in ("ingress", "ingressDeny", "egress", "egressDeny")
    },
    "fromCIDRSet": "spec: {endpointSelector: {}, ingress: [{fromCIDRSet: [%s]}]}",
    "ports": "spec: {endpointSelector: {}, ingress: [{toPorts: [{ports: [%s]}]}]}",
    "icmps": "spec: {endpointSelector: {}, ingress: [{icmps: [{fields: [%s]}]}]}",
    "http": f"spec: {{{_PEERS % 'rules: {http: [%s]}'}}}",
    "listener": 'spec: {endpointSelector: {}, egress: [{toPorts: [{ports: [{port: "80"}], listener: %s}]}]}',
}


class Malformed(NamedTuple):
    file: str
    line: int
    where: str
    snippet: str
    options: PolicyOptions
    expected: str
    shown: bool  # in the reference manual

    @property
    def document(self) -> dict[str, Any]:
        inner = self.snippet.replace("; ", ", ")
        base = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "p"}}
        return base | yaml.safe_load("{" + _WRAPPED[self.where] % inner + "}")

    def error(self) -> FieldError | None:
        try:
            decode_policy(self.document, self.options)
        except FieldError as error:
            return error
        return None


def corpus() -> list[Malformed]:
    return [found for file in sorted(FOLDER.glob("*.txt")) for found in _read(file)]


def _read(file: Path) -> Iterator[Malformed]:
    where, options = "", PolicyOptions()
    lines = file.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("## "):
            where, _, settings = line.removeprefix("## ").partition(", ")
            options = from_document({"policy": yaml.safe_load("{" + settings + "}")})
        elif line and not line.startswith(("#", INDENT)):
            below = lines[number + 1] if number + 1 < len(lines) else ""
            expected = below.removeprefix(INDENT) if below.startswith(INDENT) else ""
            shown = line.startswith(STAR)
            yield Malformed(file.name, number + 1, where, line.removeprefix(STAR), options, expected, shown)


def write(found: list[Malformed]) -> None:
    """Put what is said now below each snippet."""
    for name in sorted({each.file for each in found}):
        said = {each.line: str(each.error() or "accepted") for each in found if each.file == name}
        text = []
        for number, line in enumerate((FOLDER / name).read_text().splitlines(), 1):
            if not line.startswith(INDENT):
                text.append(line)
            if number in said:
                text.append(INDENT + said[number])
        (FOLDER / name).write_text("\n".join(text) + "\n")


def tables(text: str, found: list[Malformed]) -> str:
    """The reference manual's text with the tables of what is refused as the corpus has them."""
    for name in sorted({each.file for each in found}):
        head, begin, rest = text.partition(f"<!-- refused: {name.removesuffix('.txt')} -->\n")
        _, end, tail = rest.partition("<!-- end -->\n")
        assert end, f"there is no table for {name}"
        rows = ["| refused | because |", "|---|---|"]
        for each in found:
            if each.file == name and each.shown:
                inner = each.snippet.replace("; ", "<br>").replace("|", "\\|")
                snippet = "<br>".join(f"`{part}`" for part in inner.split("<br>"))
                rows.append(f"| {snippet} | {each.expected.replace('|', '&#124;').replace('*', '&#42;')} |")
        text = f"{head}{begin}\n" + "\n".join(rows) + f"\n\n{end}{tail}"
    return text
