# SPDX-License-Identifier: Apache-2.0
"""The reference of the agent's tables, from the modules that declare them."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from typing import Any

from ciliumpy.api.admin_statedb import camel
from ciliumpy.cli.reference.markdown import code, head, table
from ciliumpy.tables.registry import ALL_TABLES

INTRODUCTION = """\
The agent's parts meet in tables. `ciliumpy statedb tables` lists them with their fill, `ciliumpy statedb dump TABLE`
prints the rows as they are; names are those of `-o json`. Data takes its way through them in this order. Each has one
writer, which the module it is declared in names. Rows and fields follow the program: they are for looking, not an
interface as the other commands' JSON is.
"""


def page() -> str:
    rows = [(f"[{spec.name}](#{spec.name})", summary(spec.row), module_of(spec)) for spec in ALL_TABLES]
    parts = [
        head("Tables", "tables/*.py"),
        INTRODUCTION,
        "\n",
        table(("table", "a row is", "module"), rows),
        *(section(spec) for spec in ALL_TABLES),
    ]
    return "".join(parts)


def section(spec: Any) -> str:
    key, indexes = declaration(spec)
    said = inspect.cleandoc(spec.row.__doc__ or "") if own_docstring(spec.row) else ""
    lines = [f"\n## {spec.name}\n\n", f"{said}\n\n" if said else "", f"Key: {code(key)}."]
    if indexes:
        lines.append(" Indexes: " + ", ".join(f"{code(name)} ({code(by)})" for name, by in indexes.items()) + ".")
    rows = [(code(camel(name)), code(kind), said) for name, kind, said in fields(spec.row)]
    return "".join(lines) + "\n\n" + table(("field", "type", "meaning"), rows)


def fields(row: type) -> list[tuple[str, str, str]]:
    """Return name, type and comment of each field, as they stand in the source."""
    found = []
    for line in inspect.getsource(row).splitlines():
        match = re.match(r"    (\w+): ([^=#]+?)(?: = [^#]*?)?(?:  # (.*))?$", line)
        if match:
            found.append((match[1], match[2], match[3] or ""))
    return found


def declaration(spec: Any) -> tuple[str, dict[str, str]]:
    """Return what the key and each index are made of, as the source says it."""
    module = sys.modules[spec.row.__module__]
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "TableSpec" and spec.name == _literal(node.args[0]):
            said = {keyword.arg: keyword.value for keyword in node.keywords}
            indexes = said.get("indexes")
            pairs = zip(indexes.keys, indexes.values, strict=True) if isinstance(indexes, ast.Dict) else ()
            return _body(said["key"]), {str(_literal(key)): _body(value) for key, value in pairs}
    raise LookupError(spec.name)


def _literal(node: ast.expr | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _body(function: ast.expr) -> str:
    """Return what a lambda over a row gives, without the row's name and without the brackets of a tuple."""
    body = function.body if isinstance(function, ast.Lambda) else function
    elements = body.elts if isinstance(body, ast.Tuple) else [body]
    text = ", ".join(ast.unparse(each) for each in elements)
    return re.sub(r"\br\.(\w+)", lambda match: camel(match[1]), text)


def own_docstring(row: type) -> bool:
    return "__doc__" in row.__dict__ and bool(row.__doc__)


def summary(row: type) -> str:
    """Return the first sentence of what is said of a row, else its name in words."""
    if own_docstring(row):
        return " ".join((row.__doc__ or "").split()).partition(". ")[0].rstrip(".")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", row.__name__).lower()


def module_of(spec: Any) -> str:
    module = sys.modules[spec.row.__module__]
    writer = re.search(r"[Ww]ritten by ([^.(]+?)( alone)?[.,(]", " ".join((module.__doc__ or "").split()))
    place = module.__name__.removeprefix("ciliumpy.").replace(".", "/") + ".py"
    return code(place) + (f", written by {writer[1].strip()}" if writer else "")
