# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy policy validate`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ciliumpy.cli.terminal import printable
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from ciliumpy.cli.output import Format
    from ciliumpy.model.options import PolicyOptions
    from ciliumpy.store.check import Finding, Report

FORMATS = "text|json|yaml|jsonpath=…|name|sarif"

Sources = Annotated[list[str], typer.Argument(metavar="FILE|DIR|-...", help="Manifests; `-` is standard input.")]
Strict = Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No warnings and notes.")]
Config = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="The ConfigMap cilium-config, or an agent's configuration."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="OPTION=VALUE", help="An option as in the ConfigMap: enable-l7-proxy=false."),
]
Output = Annotated[str, typer.Option("--output", "-o", metavar=FORMATS, help="How to print.")]


def run(
    sources: Sources,
    strict: Strict = False,
    quiet: Quiet = False,
    config: Config = None,
    settings: Settings = None,
    output: Output = "text",
) -> None:
    """Check manifests without an agent, and without root: every fault at once, by file, line and field.

    Exit code 1 if an agent would refuse something of it. Warnings name what it would take and what has no effect; notes
    what it does not know and would pass over. Folders are read with all that is below them. The options of the agents
    (--config, --set) decide what a policy may say.
    """
    from ciliumpy.store.check import RULES, check
    from ciliumpy.store.texts import texts

    form = None if output == "sarif" else _format(output)
    report = check(texts(sources), _options(config, settings or []))
    shown = [finding for finding in report.findings if finding.level == "error" or not quiet]
    if form is None:
        _sarif(shown, RULES)
    elif form.kind == "text":
        sys.stdout.write("".join(text(finding) for finding in shown))
        sys.stdout.flush()
        sys.stderr.write(summary(report) + "\n")
    elif form.kind == "name":
        sys.stdout.write("".join(f"{name}\n" for name in dict.fromkeys(f.object or f.file for f in shown)))
    else:
        _document(shown, form)
    if report.count("error") or (strict and report.count("warning")):
        raise typer.Exit(1)


def text(finding: Finding) -> str:
    """Return `file:line:column: level: field: message` and the line it is about."""
    place = ":".join(str(part) for part in finding[:3] if part)
    parts = (place, finding.level, finding.object if not finding.field else finding.field, finding.message)
    out = ": ".join(filter(None, parts)) + "\n"
    if finding.excerpt:
        number = str(finding.line)
        blanks = "".join("\t" if each == "\t" else " " for each in finding.excerpt[: max(finding.column - 1, 0)])
        out += f"  {number} | {finding.excerpt}\n  {' ' * len(number)} | {blanks}^\n"
    return printable(out)


def summary(report: Report) -> str:
    """Return what was looked at and what came of it."""
    found = [_count(report.count(level), level) for level in ("error", "warning", "note") if report.count(level)] or [
        "no faults"
    ]
    bad = len({(f.file, f.object) for f in report.findings if f.level == "error" and f.object})
    return f"{_count(report.files, 'file')}, {_count(len(report.objects) + bad, 'object')}: {', '.join(found)}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _format(output: str) -> Format:
    from ciliumpy.cli.output import parse_format

    if output == "wide":
        raise CiliumpyError("there is no output format 'wide' here", FORMATS.replace("|", ", "), 2)
    try:
        return parse_format(output)
    except CiliumpyError as error:
        raise CiliumpyError(error.message, FORMATS.replace("|", ", "), 2) from None


def _document(findings: list[Finding], form: Format) -> None:
    from ciliumpy.cli.output import document, envelope

    items = [finding._asdict() for finding in findings]
    sys.stdout.write(document(envelope("PolicyFindingList", items, ()), form))


def _sarif(findings: list[Finding], rules: dict[str, str]) -> None:
    import json

    from ciliumpy.cli.policy.sarif import sarif
    from ciliumpy.store.check import LEVELS

    sys.stdout.write(json.dumps(sarif(findings, rules, LEVELS), indent=2, ensure_ascii=False) + "\n")


def _options(config: str | None, settings: list[str]) -> PolicyOptions:
    from ciliumpy.model.errors import FieldError
    from ciliumpy.model.option_names import from_document, with_named
    from ciliumpy.model.options import PolicyOptions

    options = PolicyOptions()
    if config is not None:
        document: Any = _config(config)
        try:
            options = from_document(document.value)
        except FieldError as error:
            line = document.position(error.path)[0]
            raise CiliumpyError(f"{config}:{line}: {error}", exit_code=2) from None
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise CiliumpyError(f"--set {setting}: wants OPTION=VALUE", "--set enable-host-firewall=true", 2)
        try:
            options = with_named(options, name, value)
        except FieldError as error:
            raise CiliumpyError(f"--set {error}", exit_code=2) from None
    return options


def _config(path: str) -> Any:
    from ciliumpy.model.documents import DocumentError, parse
    from ciliumpy.store.texts import texts

    found = list(texts([path]))
    if len(found) != 1 or found[0].fault:
        raise CiliumpyError(f"{path}: {found[0].fault if found else 'is no file'}", exit_code=2)
    try:
        documents = parse(found[0].data)
    except DocumentError as error:
        raise CiliumpyError(f"{path}:{error.line}: {error.message}", exit_code=2) from None
    if len(documents) != 1:
        raise CiliumpyError(f"{path}: must hold one document, not {len(documents)}", exit_code=2)
    return documents[0]
