# SPDX-License-Identifier: Apache-2.0
"""PURE: the end of a run as cilium writes it, and as a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ciliumpy.connectivity.result import Failure, Outcome, Result


def summary(outcome: Outcome) -> list[str]:
    """Return the lines that end a run; the last one says how it came out."""
    failed, ran = outcome.failed, outcome.ran
    actions = sum(result.actions for result in ran)
    skipped = len(outcome.results) - len(ran)
    left_out = sum(len(result.left_out) for result in ran)
    tail = f"{skipped} tests skipped, {left_out} scenarios skipped"
    if missing := sum(result.actions_left_out for result in ran):
        tail += f", {missing} actions skipped"
    if outcome.green:
        return ["", f"✅ [{outcome.namespace}] All {len(ran)} tests ({actions} actions) successful, {tail}."]
    lines = ["", f"📋 Test Report [{outcome.namespace}]"]
    if failed:
        bad = sum(len(result.failures) for result in failed)
        lines.append(f"❌ {len(failed)}/{len(ran)} tests failed ({bad}/{actions} actions), {tail}:")
        for result in failed:
            lines.append(f"Test [{result.name}]:")
            lines += [f"  🟥 {failure.title}: {'; '.join(failure.faults)}" for failure in result.failures]
    if outcome.broken_off:
        lines.append(f"🟥 broken off, {outcome.total - len(outcome.results)} tests did not run: {outcome.broken_off}")
    end = f"{len(failed)} tests failed" if failed else "broken off"
    return [*lines, f"[{outcome.namespace}] {end}"]


def document(outcome: Outcome) -> dict[str, Any]:
    """Return the ConnectivityReport."""
    return {
        "apiVersion": "ciliumpy/v1",
        "kind": "ConnectivityReport",
        "namespace": outcome.namespace,
        "successful": outcome.green,
        "brokenOff": outcome.broken_off,
        "items": [_item(result) for result in outcome.results],
        "errors": [],
    }


def _item(result: Result) -> dict[str, Any]:
    return {
        "test": result.name,
        "about": result.about,
        "state": _state(result),
        "reason": result.skip or result.broken_off,
        "seconds": round(result.seconds, 3),
        "actions": result.actions,
        "skippedScenarios": [{"scenario": name, "reason": why} for name, why in result.left_out],
        "skippedActions": result.actions_left_out,
        "failures": [_failure(failure) for failure in result.failures],
    }


def _state(result: Result) -> str:
    if result.skip:
        return "skipped"
    if result.failures:
        return "failed"
    return "brokenOff" if result.broken_off else "successful"


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "action": failure.where,
        "title": failure.title,
        "faults": list(failure.faults),
        "evidence": [{"title": table.title, "lines": list(table.lines)} for table in failure.evidence],
    }
