# SPDX-License-Identifier: Apache-2.0
"""Bad policies are refused with the field, the reason and what was meant. UPDATE_REFUSED=1 writes what is said."""

from __future__ import annotations

import ast
import os
from itertools import groupby
from pathlib import Path

import pytest

from ciliumpy.model import cidr_selectors, cnp, label_selectors
from ciliumpy.model.errors import path_text
from tests.unit.model.refused import Malformed, corpus, tables, write

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "policy-language.md"
CORPUS = corpus()
if os.environ.get("UPDATE_REFUSED"):
    write(CORPUS)
    CORPUS = corpus()
    PAGE.write_text(tables(PAGE.read_text(), CORPUS))


@pytest.mark.parametrize(
    "found", [pytest.param(list(g), id=name) for name, g in groupby(CORPUS, key=lambda each: each.file)]
)
def test_each_is_refused_by_its_field(found: list[Malformed]):
    wrong = [
        f"{each.file}:{each.line}: {each.snippet}\n  expected {each.expected}\n  got      {said}"
        for each in found
        if (said := str(each.error() or "accepted")) != each.expected or said == "accepted"
    ]
    assert not wrong, "\n".join(wrong)


def test_the_corpus_is_large_and_says_nothing_twice():
    assert len(CORPUS) >= 500
    assert len({(each.where, str(each.options), each.snippet) for each in CORPUS}) == len(CORPUS)


def test_the_path_leads_to_something_or_to_what_is_missing_in_it():
    for each in CORPUS:
        error = each.error()
        assert error is not None
        assert error.path, each.snippet
        assert str(error) == f"{path_text(error.path)}: {error.message}"
        here = each.document
        for step in error.path[:-1]:
            here = here[step]
        last = error.path[-1]
        there = last in here if isinstance(here, dict) else isinstance(last, int) and last < len(here)
        assert there or "is missing" in error.message or error.message.startswith("must name"), str(error)


def test_every_refusal_of_the_decoder_is_in_the_corpus():
    folder = Path(cnp.__file__).parent
    files = [*folder.glob("cnp*.py"), Path(cidr_selectors.__file__), Path(label_selectors.__file__)]
    reached = set()
    for each in CORPUS:
        frame = error.__traceback__ if (error := each.error()) else None
        while frame and frame.tb_next:
            frame = frame.tb_next
        if frame:
            reached.add((frame.tb_frame.f_code.co_filename, frame.tb_lineno))
    unreached = [
        f"{file.name}:{node.lineno}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Raise)
        and not any((str(file), line) in reached for line in range(node.lineno, (node.end_lineno or node.lineno) + 1))
    ]
    assert not unreached


def test_the_manual_shows_what_is_said():
    assert PAGE.read_text() == tables(PAGE.read_text(), CORPUS), "run with UPDATE_REFUSED=1"
