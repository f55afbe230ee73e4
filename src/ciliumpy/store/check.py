# SPDX-License-Identifier: Apache-2.0
"""PURE: texts that hold objects, judged as an agent would judge them, every fault at once."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.model.documents import GIVEN, Document, DocumentError, parse
from ciliumpy.model.errors import FieldError, path_text
from ciliumpy.store.catalog import flat
from ciliumpy.store.decode import UNENFORCED, check_kind, decode
from ciliumpy.store.faults import faults
from ciliumpy.store.given import Object
from ciliumpy.store.kinds import KINDS, key_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ciliumpy.model.errors import Path
    from ciliumpy.model.options import PolicyOptions
    from ciliumpy.store.interface import Key

RULES = {  # what a finding is an instance of -> what it means
    "syntax": "The text cannot be read as YAML or JSON.",
    "invalid": "A field does not hold what it must: the whole object is refused.",
    "unknown-field": "A field that the language does not have: the whole object is refused.",
    "duplicate": "The same object stands there twice: the second is refused.",
    "unenforced": "An object that would cut traffic, of a kind that this version does not enforce.",
    "no-effect": "A part of the object has no effect.",
    "no-objects": "There is no object in the file.",
    "unchecked": "An object of a kind that is not known here.",
}
LEVELS = dict.fromkeys(RULES, "error") | {"no-effect": "warning", "no-objects": "warning", "unchecked": "note"}


class Text(NamedTuple):
    """A file's name and content, or why it cannot be read."""

    name: str
    data: bytes
    fault: str = ""


class Finding(NamedTuple):
    """Something to say of a text. Line and column are 1-based, 0 unknown; `excerpt` is the text's line."""

    file: str
    line: int
    column: int
    object: str  # Kind/namespace/name, or empty
    field: str  # spec.ingress[0].toPorts, or empty
    level: str  # error, warning, note
    rule: str  # a key of RULES
    message: str
    excerpt: str


class Report(NamedTuple):
    """What was found, sorted by file and place; the objects without fault, in their order."""

    files: int
    findings: list[Finding]
    objects: list[Object]

    def count(self, level: str) -> int:
        return sum(finding.level == level for finding in self.findings)


def check(texts: Iterable[Text], options: PolicyOptions) -> Report:
    """Judge all objects of all texts as one set."""
    found = _Check(options)
    for text in texts:
        found.text(text)
    return Report(found.files, sorted(found.findings, key=lambda f: (f.file, f.line, f.column)), found.objects)


class _Check:
    def __init__(self, options: PolicyOptions) -> None:
        self.files = 0
        self.findings: list[Finding] = []
        self.objects: list[Object] = []
        self._options = options
        self._seen: dict[Key, str] = {}

    def text(self, text: Text) -> None:
        self.files += 1
        if text.fault:
            self._at(text.name, 0, 0, "", "syntax", text.fault)
            return
        try:
            documents = parse(text.data, GIVEN)
        except DocumentError as error:
            lines = text.data.decode(errors="replace").splitlines()
            excerpt = lines[error.line - 1] if 0 < error.line <= len(lines) else ""
            self._at(text.name, error.line, error.column, "", "syntax", error.message, excerpt)
            return
        none = True
        for document in flat(tuple(documents)):
            none = False
            self._document(text.name, document)
        if none:
            self._at(text.name, 0, 0, "", "no-objects", "holds no object")

    def _document(self, file: str, document: Document) -> None:
        key: Key | None = None
        try:
            key = key_of(document.value)
            said = check_kind(document.value)
        except FieldError as error:
            self._field(file, document, key, "invalid", error)
            return
        if said is not None:
            rule = "unenforced" if key.kind in UNENFORCED else "unchecked"
            if near := difflib.get_close_matches(key.kind, KINDS, n=1, cutoff=0.85):
                rule, said = "invalid", f"there is no kind {key.kind[:80]}, did you mean {near[0]}?"
            self._field(file, document, key, rule, FieldError(("kind",), said))
            return
        where = f"{file}:{document.line}"
        if key in self._seen:
            self._field(file, document, key, "duplicate", FieldError((), f"is in {self._seen[key]} already"))
            return
        self._seen[key] = where
        notices: tuple[tuple[Path, str], ...] = ()

        def attempt(value: dict[str, Any]) -> None:
            nonlocal notices
            decoded = decode(key, value, origin=file, options=self._options)
            notices = decoded.notices if decoded else ()

        found = faults(attempt, document.value)
        for fault in found:
            rule = "unknown-field" if fault.message.startswith("unknown field") else "invalid"
            self._field(file, document, key, rule, fault)
        for path, message in notices if not found else ():
            self._field(file, document, key, "no-effect", FieldError(path, message))
        if not found:
            self.objects.append(Object(key, document, file))

    def _field(self, file: str, document: Document, key: Key | None, rule: str, error: FieldError) -> None:
        line, column = document.position(error.path) if error.path else (document.line, 1)
        excerpt = document.source(line)
        name = str(key) if key else ""
        self._at(file, line, column, path_text(error.path), rule, error.message, excerpt, name)

    def _at(
        self,
        file: str,
        line: int,
        column: int,
        field: str,
        rule: str,
        message: str,
        excerpt: str = "",
        name: str = "",
    ) -> None:
        self.findings.append(Finding(file, line, column, name, field, LEVELS[rule], rule, message, excerpt[:200]))
