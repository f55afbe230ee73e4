# SPDX-License-Identifier: Apache-2.0
"""`ciliumpy connectivity test`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ciliumpy.cli.options import Lab
from ciliumpy.cli.terminal import printable
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from ciliumpy.connectivity.result import Outcome
    from ciliumpy.connectivity.run import Settings
    from ciliumpy.connectivity.select import Selection

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Tests = Annotated[
    list[str] | None,
    typer.Option("--test", metavar="REGEX", help="Only tests so named; `!REGEX` leaves out; `TEST/SCENARIO`."),
]
List = Annotated[bool, typer.Option("--list", help="List what would run, and run nothing.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="End with the first test that fails.")]
Junit = Annotated[Path | None, typer.Option("--junit-file", metavar="FILE", help="Write the results as JUnit XML.")]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="End a run that takes longer.")]
RequestTimeout = Annotated[
    float, typer.Option("--request-timeout", metavar="SECONDS", min=0.5, help="Wait so long for an answer or a flow.")
]
Concurrency = Annotated[
    int, typer.Option("--concurrency", metavar="N", min=1, max=256, help="So many actions at once.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="A line an action instead of a dot.")]
Output = Annotated[str, typer.Option("--output", "-o", metavar="text|json", help="How to print the results.")]


def run(
    test: Tests = None,
    list_: List = False,
    fail_fast: FailFast = False,
    junit_file: Junit = None,
    timeout: Timeout = 300.0,
    request_timeout: RequestTimeout = 5.0,
    concurrency: Concurrency = 32,
    verbose: Verbose = False,
    output: Output = "text",
    lab: Lab = None,
) -> None:
    """Try in a lab what policies allow and deny: real clients in pods, and the flows of each step.

    Makes two namespaces of its own and removes them again. Exit code 1 if a test fails.
    """
    from ciliumpy.connectivity.run import Settings
    from ciliumpy.connectivity.select import Selection

    if output not in ("text", "json"):
        raise CiliumpyError(f"there is no output format {output!r} here", "text or json", 2)
    selection = Selection(test or ())
    if list_:
        _list(selection, output)
        return
    if junit_file is not None and not junit_file.absolute().parent.is_dir():
        raise CiliumpyError(f"--junit-file: there is no directory {junit_file.parent}", exit_code=2)
    if junit_file is not None and junit_file.is_dir():
        raise CiliumpyError(f"--junit-file: {junit_file} is a directory", exit_code=2)
    settings = Settings(concurrency, timeout, fail_fast)
    try:
        for number in _SIGNALS:
            signal.signal(number, _interrupt)
        outcome = _run(selection, settings, request_timeout, lab, verbose=verbose, document=output == "json")
    except Interrupted as interrupted:
        raise typer.Exit(128 + interrupted.number) from None
    _write(outcome, junit_file, document=output == "json")
    if not outcome.green:
        raise typer.Exit(1)


class Interrupted(BaseException):
    """A signal came. Nothing on the way up takes it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _interrupt(number: int, _: object) -> NoReturn:
    for each in _SIGNALS:  # what was begun is taken away undisturbed
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(number)


def _list(selection: Selection, output: str) -> None:
    from ciliumpy.cli.output import Column, document, parse_format, table
    from ciliumpy.connectivity import catalog, select

    found = [
        {"test": chosen.test.name, "scenario": scenario.name, "about": chosen.test.about}
        for chosen in select.choose(catalog.tests(), selection)
        for scenario in chosen.scenarios
    ]
    if output == "json":
        value = {"apiVersion": "ciliumpy/v1", "kind": "ConnectivityTestList", "items": found, "errors": []}
        sys.stdout.write(document(value, parse_format("json")))
        return
    columns = [Column("TEST", lambda f: f["test"]), Column("SCENARIO", lambda f: f["scenario"])]
    sys.stdout.write(table([*columns, Column("ABOUT", lambda f: f["about"])], found))


def _run(
    selection: Selection, settings: Settings, request_timeout: float, lab: str | None, *, verbose: bool, document: bool
) -> Outcome:
    from ciliumpy.connectivity import catalog, select
    from ciliumpy.connectivity.progress import Progress
    from ciliumpy.connectivity.run import Runner
    from ciliumpy.connectivity.stage import Limits, Stage
    from ciliumpy.lab import place
    from ciliumpy.lab.cluster import LabCluster

    if all(chosen.skip for chosen in select.choose(catalog.tests(), selection)):
        raise CiliumpyError("no test is so named", "`ciliumpy connectivity test --list` shows all", 2)
    cluster = LabCluster(place.only_lab(lab))
    cluster.check()
    progress = Progress(sys.stderr if document else sys.stdout, verbose=verbose)
    stage = Stage(cluster, Limits(request=request_timeout), progress.say)
    progress.namespace = stage.namespace
    runner = None
    try:
        cast = stage.build()
        runner = Runner(cluster, stage, cast, settings, progress)
        for feature, why in stage.missing.items():
            progress.say(f"ℹ️  Feature {feature} is disabled: {why}")  # noqa: RUF001 - cilium's sign
        outcome = runner.run(select.choose(catalog.tests(), selection, tuple(stage.missing)))
    except Interrupted:
        progress.end()
        progress.say(f"🟥 [{stage.namespace}] interrupted, cleaning up...")
        raise
    finally:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        if runner is not None:
            runner.close()
        left = stage.close()
        for why in left:
            sys.stderr.write(printable(f"Error: [{stage.namespace}] not all could be removed: {why}\n"))
    return outcome._replace(broken_off=outcome.broken_off or "; ".join(left))


def _write(outcome: Outcome, junit_file: Path | None, *, document: bool) -> None:
    from ciliumpy.cli.output import document as as_document
    from ciliumpy.cli.output import parse_format
    from ciliumpy.connectivity import junit, report

    if document:
        sys.stdout.write(as_document(report.document(outcome), parse_format("json")))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in report.summary(outcome)))
    if junit_file is not None:  # last: a disk that is full must not take the rest along
        junit_file.write_bytes(junit.render(outcome))
