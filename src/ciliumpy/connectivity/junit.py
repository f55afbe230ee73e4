# SPDX-License-Identifier: Apache-2.0
"""PURE: a run as JUnit's XML, a test case a test, for build servers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from ciliumpy.connectivity.result import Outcome, Result

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(outcome: Outcome) -> bytes:
    """Return the document. What XML cannot hold is left out of texts: they come from the wire too."""
    root = ET.Element("testsuites")
    counts = {
        "tests": len(outcome.results),
        "failures": len(outcome.failed),
        "errors": int(bool(outcome.broken_off)) + sum(bool(result.broken_off) for result in outcome.results),
        "skipped": len(outcome.results) - len(outcome.ran),
    }
    seconds = sum(result.seconds for result in outcome.results)
    suite = ET.SubElement(root, "testsuite", name="connectivity test", time=f"{seconds:.3f}")
    for key, value in counts.items():
        suite.set(key, str(value))
    properties = ET.SubElement(suite, "properties")
    ET.SubElement(properties, "property", name="namespace", value=outcome.namespace)
    for result in outcome.results:
        _case(suite, result)
    if outcome.broken_off:
        case = ET.SubElement(suite, "testcase", name="broken-off", classname="connectivity test", time="0")
        ET.SubElement(case, "error", message=_clean(outcome.broken_off))
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _case(suite: ET.Element, result: Result) -> None:
    case = ET.SubElement(
        suite, "testcase", name=result.name, classname="connectivity test", time=f"{result.seconds:.3f}"
    )
    if result.skip:
        ET.SubElement(case, "skipped", message=result.skip)
    if result.broken_off:
        ET.SubElement(case, "error", message=_clean(f"broken off: {result.broken_off}"))
    if result.failures:
        titles = "; ".join(failure.where for failure in result.failures)
        failed = ET.SubElement(case, "failure", type="failure", message=_clean(f"failed: {titles}"))
        failed.text = _clean("\n".join(_lines(result)))


def _lines(result: Result) -> list[str]:
    lines: list[str] = []
    for failure in result.failures:
        lines += [failure.title, *(f"  {fault}" for fault in failure.faults)]
        for table in failure.evidence:
            lines += [f"  {table.title}:", *(f"    {line}" for line in table.lines)]
    return lines


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("", text)
