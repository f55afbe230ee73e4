# SPDX-License-Identifier: Apache-2.0
"""Findings as SARIF 2.1.0, the form in which code hosts take what a checker found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ciliumpy import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ciliumpy.store.check import Finding

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ROOT = "SRCROOT"


def sarif(findings: Iterable[Finding], rules: Mapping[str, str], levels: Mapping[str, str]) -> dict[str, Any]:
    """Return a log with one run. `rules`: id -> what it means; `levels`: id -> error, warning or note."""
    index = {name: number for number, name in enumerate(rules)}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "ciliumpy",
                        "semanticVersion": __version__,
                        "rules": [
                            {
                                "id": f"policy/{name}",
                                "shortDescription": {"text": text},
                                "defaultConfiguration": {"level": levels[name]},
                            }
                            for name, text in rules.items()
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, index[finding.rule]) for finding in findings],
            }
        ],
    }


def _result(finding: Finding, index: int) -> dict[str, Any]:
    text = ": ".join(part for part in (finding.object, finding.field, finding.message) if part)
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": _artifact(finding.file)}}
    if finding.line:
        region: dict[str, Any] = {"startLine": finding.line, "startColumn": max(finding.column, 1)}
        if finding.excerpt:
            region["snippet"] = {"text": finding.excerpt}
        location["physicalLocation"]["region"] = region
    if finding.object:
        name = "/".join(part for part in (finding.object, finding.field) if part)
        location["logicalLocations"] = [{"fullyQualifiedName": name, "kind": "object"}]
    return {
        "ruleId": f"policy/{finding.rule}",
        "ruleIndex": index,
        "level": finding.level,
        "message": {"text": text},
        "locations": [location],
    }


def _artifact(file: str) -> dict[str, str]:
    """A relative path is one from the root of the sources, an absolute one a file's own address."""
    if file.startswith("/"):
        return {"uri": "file://" + quote(file)}
    return {"uri": quote(file), "uriBaseId": f"%{_ROOT}%"}
