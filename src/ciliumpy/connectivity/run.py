# SPDX-License-Identifier: Apache-2.0
"""Carries out tests on a stage, one after the other; the actions of a step at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from ciliumpy.connectivity import evidence
from ciliumpy.connectivity.plan import IPV4, IPV6, Apply, Audit, Check, Quiet, Relabel, Remove
from ciliumpy.connectivity.result import Failure, Outcome, Result
from ciliumpy.kit.errors import CiliumpyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ciliumpy.connectivity.cluster import Cluster
    from ciliumpy.connectivity.plan import Action, Cast, Document, Scenario, Step
    from ciliumpy.connectivity.progress import Progress
    from ciliumpy.connectivity.select import Chosen
    from ciliumpy.connectivity.stage import Played, Stage

_EXPLAINED = 3  # failures of a run for which evidence is collected: it takes seconds


class BrokenOffError(Exception):
    """The run cannot go on; the text says why."""


class Settings(NamedTuple):
    concurrency: int = 32
    timeout_s: float = 300.0
    fail_fast: bool = False


class Runner:
    """One run. Actors, namespaces and flows are the stage's; policies are put and taken away here."""

    def __init__(self, cluster: Cluster, stage: Stage, cast: Cast, settings: Settings, progress: Progress) -> None:
        self.cluster = cluster
        self.stage = stage
        self.cast = cast
        self.settings = settings
        self.progress = progress
        self._deadline = time.monotonic() + settings.timeout_s
        self.explained = 0
        self.pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="action")

    def run(self, chosen: Sequence[Chosen]) -> Outcome:
        """Run what was chosen; an outcome in any case but an interruption."""
        results: list[Result] = []
        broken_off = ""
        total = len(chosen)
        self.progress.running(sum(not one.skip for one in chosen))
        for number, one in enumerate(chosen, 1):
            if one.skip:
                self.progress.skip(one.test.name, number, total, one.skip)
                results.append(Result(one.test.name, one.test.about, one.skip))
                continue
            self.progress.test(one.test.name, number, total)
            test = _Test(self, one)
            try:
                test.run()
            except BrokenOffError as error:
                broken_off = str(error)
            results.append(test.result()._replace(broken_off=broken_off))
            if test.failures:
                self.progress.failed()
            if broken_off or (test.failures and self.settings.fail_fast):
                if not broken_off and number < total:
                    broken_off = "the first failure ends it (--fail-fast)"
                break
        self.progress.end()
        return Outcome(self.stage.namespace, results, total, broken_off)

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)

    def check_agents(self) -> None:
        """BrokenOffError if one has died."""
        for node, why in self.stage.telescope.failed.items():
            raise BrokenOffError(f"the agent of node {node} has stopped to tell flows: {why}")

    def check_going(self) -> None:
        """BrokenOffError if there is no sense in going on."""
        self.check_agents()
        if time.monotonic() > self._deadline:
            raise BrokenOffError(f"it takes longer than {self.settings.timeout_s:g} s (--timeout)")


class _Still(NamedTuple):
    """A scenario that changes nothing: its checks."""

    scenario: Scenario
    checks: Sequence[Check]


class _Changing(NamedTuple):
    """A scenario whose steps depend on what came before."""

    scenario: Scenario
    steps: Sequence[Step]


def _groups(scenarios: Sequence[Scenario], cast: Cast) -> list[list[_Still] | _Changing]:
    """PURE: the scenarios in their order; those that change nothing, next to each other, in one group."""
    groups: list[list[_Still] | _Changing] = []
    for scenario in scenarios:
        steps = list(scenario.run(cast))
        checks = [step for step in steps if isinstance(step, Check)]
        if len(checks) < len(steps) or any(a.verb.startswith(("open-", "use-")) for c in checks for a in c.actions):
            groups.append(_Changing(scenario, steps))
        elif groups and isinstance(groups[-1], list):
            groups[-1].append(_Still(scenario, checks))
        else:
            groups.append([_Still(scenario, checks)])
    return groups


class _Test:
    """One test as it runs."""

    def __init__(self, runner: Runner, chosen: Chosen) -> None:
        self.runner = runner
        self._chosen = chosen
        self._begin = time.monotonic()
        self._actions = 0
        self._actions_left_out = 0
        self.failures: list[Failure] = []

    def result(self) -> Result:
        test = self._chosen.test
        return Result(
            name=test.name,
            about=test.about,
            seconds=time.monotonic() - self._begin,
            actions=self._actions,
            left_out=tuple((scenario.name, why) for scenario, why in self._chosen.left_out),
            actions_left_out=self._actions_left_out,
            failures=tuple(self.failures),
        )

    def run(self) -> None:
        runner, test = self.runner, self._chosen.test
        for scenario, why in self._chosen.left_out:
            runner.progress.skip_scenario(f"{test.name}/{scenario.name}", why)
        policies = list(test.policies(runner.cast))
        try:
            if not self._change(test.name, policies, "Applying"):
                return
            for group in _groups(self._chosen.scenarios, runner.cast):
                if isinstance(group, _Changing):
                    self._play(group)
                else:
                    self._look(group)
                if self.failures and runner.settings.fail_fast:
                    return
        finally:
            self._change(test.name, policies, "Removing")

    def _where(self, scenario: Scenario) -> str:
        where = f"{self._chosen.test.name}/{scenario.name}"
        self.runner.progress.scenario(where)
        return where

    def _look(self, group: Sequence[_Still]) -> None:
        """Do all actions of scenarios that change nothing at once."""
        actions = []
        for scenario, checks in group:
            where = self._where(scenario)
            own = [action for check in checks for action in self._possible(where, check)]
            actions += [(f"{where}/{action.title(number)}", action) for number, action in enumerate(own)]
        self._check(actions)

    def _play(self, changing: _Changing) -> None:
        """Take the steps of one scenario, one after the other; what it has changed is undone."""
        runner = self.runner
        where = self._where(changing.scenario)
        applied: list[Document] = []
        kept: list[Action] = []
        undo: dict[tuple[str, str], Callable[[], None]] = {}  # what pods were changed in
        number = 0
        try:
            for step in changing.steps:
                runner.check_going()
                if isinstance(step, Apply):
                    applied += [policy for policy in step.policies if policy not in applied]
                    if not self._change(where, step.policies, "Applying"):
                        return
                elif isinstance(step, Remove):
                    applied = [policy for policy in applied if policy not in step.policies]
                    if not self._change(where, step.policies, "Removing"):
                        return
                elif isinstance(step, Relabel | Audit):
                    undo[type(step).__name__, step.pod.key] = _undone(runner.stage, step)
                    if not self._do(where, *_of_a_pod(runner.stage, step)):
                        return
                elif isinstance(step, Quiet):
                    self._quiet(where)
                else:
                    actions = self._possible(where, step)
                    kept += [action for action in actions if action.verb.startswith("open-")]
                    self._check([(f"{where}/{a.title(n)}", a) for n, a in enumerate(actions, number)])
                    number += len(actions)
        finally:
            for action in kept:
                runner.stage.let_go(action)
            self._change(where, applied, "Removing")
            for (what, pod), done in undo.items():
                self._do(where, f"Undoing {what.lower()} of {pod}", done)

    def _possible(self, where: str, step: Check) -> list[Action]:
        """Return the actions whose ends have addresses of the family; the others are counted as left out."""
        possible = []
        for action in step.actions:
            feature = IPV4 if action.family == 4 else IPV6
            if feature in self.runner.stage.missing or not all(
                party.addresses.get(action.family) for party in (action.source, action.target)
            ):
                ends = f"{action.verb}-ipv{action.family}: {action.source} -> {action.target}"
                self.runner.progress.skip_action(f"{where}/{ends}", f"Feature {feature} is disabled")
                self._actions_left_out += 1
            else:
                possible.append(action)
        return possible

    def _check(self, actions: Sequence[tuple[str, Action]]) -> None:
        """Do all of them at once. What explains failures is collected while policies and rows are as they were."""
        futures = [self.runner.pool.submit(self._one, title, action) for title, action in actions]
        failures = []
        for (_, action), future in zip(actions, futures, strict=True):
            self._actions += 1
            failure, played = future.result()
            if failure is not None:
                failures.append((failure, action, played))
        self.runner.check_agents()  # without them no flow comes: that is no fault of the datapath
        self.failures += self._explained(failures)
        self.runner.check_going()

    def _one(self, title: str, action: Action) -> tuple[Failure | None, Played | None]:
        failure, played = None, None
        try:
            played = self.runner.stage.play(action)
            if played.faults:
                failure = Failure(title.partition(": ")[0], title, played.faults, (evidence.flows(played.flows),))
        except CiliumpyError as error:
            failure = Failure(title.partition(": ")[0], title, (error.message,))
        self.runner.progress.action(title, failure)
        return failure, played

    def _explained(self, failures: Sequence[tuple[Failure, Action, Played | None]]) -> list[Failure]:
        """Return the failures, the first few of the run with the rows that matter."""
        runner = self.runner
        room = _EXPLAINED - runner.explained
        nodes = [sorted({p.node for p in (action.source, action.target) if p.node}) for _, action, _ in failures]
        asked = sorted({node for each in nodes[: max(room, 0)] for node in each})
        if not asked:
            return [failure for failure, _, _ in failures]
        tables = evidence.Tables(runner.cluster, asked)
        spaces = (runner.stage.namespace, runner.stage.elsewhere)
        found = []
        for number, (failure, _, played) in enumerate(failures):
            if played is not None and number < room:
                runner.explained += 1
                more = tables.about(nodes[number], played.conversation, spaces)
                runner.progress.evidence(failure.where, more)
                found.append(failure._replace(evidence=(*failure.evidence, *more)))
            else:
                found.append(failure)
        return found

    def _quiet(self, where: str) -> None:
        stage = self.runner.stage
        drops = [flow for flow in stage.telescope.drops() if flow.conversation not in stage.expected_drops]
        self._actions += 1
        title = f"{where}/drops-0: {len(drops)} drops that no action expects"
        failure = None
        faults = tuple(f"{d.reason_name} on node {d.node}: {d.conversation}" for d in drops[:10])
        if stage.telescope.lost:
            faults += (f"{stage.telescope.lost} events were lost: there may be drops among them",)
        if faults:
            failure = Failure(title.partition(": ")[0], title, faults, (evidence.flows(drops),))
            self.failures.append(failure)
        self.runner.progress.action(title, failure)

    def _change(self, where: str, policies: Sequence[Document], what: str) -> bool:
        """Apply or remove; a failure is kept and False."""
        if not policies:
            return True
        cluster = self.runner.cluster
        said = f"{what} {', '.join(p['metadata']['name'] for p in policies)}"
        change = cluster.apply if what == "Applying" else cluster.delete
        return self._do(where, said, lambda: change(policies), f"{what.lower()}-policies")

    def _do(self, where: str, said: str, change: Callable[[], None], name: str = "") -> bool:
        """Change something of the cluster; a failure is kept and False."""
        self.runner.progress.change(said)
        try:
            change()
        except CiliumpyError as error:
            title = f"{where}/{name or said.lower().replace(' ', '-')}"
            self.failures.append(Failure(title, title, (error.message,)))
            return False
        return True


def _of_a_pod(stage: Stage, step: Relabel | Audit) -> tuple[str, Callable[[], None]]:
    """Return what a step does to a pod: in words, and to be called."""
    if isinstance(step, Relabel):
        return f"Relabelling {step.pod.key} app={step.app}", lambda: stage.relabel(step.pod, step.app)
    word = "Auditing" if step.on else "No longer auditing"
    return f"{word} {step.pod.key}", lambda: stage.audit(step.pod, on=step.on)


def _undone(stage: Stage, step: Relabel | Audit) -> Callable[[], None]:
    if isinstance(step, Relabel):
        return lambda: stage.relabel(step.pod)
    return lambda: stage.audit(step.pod, on=False)
