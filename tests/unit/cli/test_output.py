# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
import typer
import yaml

from ciliumpy.cli.output import Column, Problem, Problems, description, fitted, parse_format, show, show_one, table
from ciliumpy.kit.errors import CiliumpyError

ITEMS = [{"node": "n2", "id": 3, "labels": ["a", "b"]}, {"node": "n1", "id": 10, "labels": []}, {"node": "n1", "id": 9}]
COLUMNS = [
    Column("ID", lambda i: i["id"], right=True),
    Column("LABELS\n(all)", lambda i: i.get("labels")),
    Column("MORE", lambda i: f"more{i['id']}", wide=True),
]


def nodes(asked: int, *silent: Problem) -> Problems:
    problems = Problems(asked)
    problems += silent
    return problems


def print_items(output: str, **options: object) -> None:
    arguments: dict = {"name": lambda i: str(i["id"]), "sort": lambda i: i["id"], **options}
    show("ThingList", arguments.pop("items", ITEMS), COLUMNS, output, **arguments)


def test_text_is_aligned_sorted_and_has_the_node_first(capsys: pytest.CaptureFixture[str]) -> None:
    print_items("text", errors=nodes(2))
    assert capsys.readouterr().out.splitlines() == [
        "NODE   ID   LABELS",
        "            (all)",
        "n1      9",
        "n1     10",
        "n2      3   a",
        "            b",
    ]


def test_the_node_is_shown_by_how_many_were_asked_not_by_who_has_rows(capsys: pytest.CaptureFixture[str]) -> None:
    for asked, heading, listed in ((1, "ID   LABELS", "thing/3\n"), (3, "NODE   ID   LABELS", "thing/n2:3\n")):
        print_items("text", items=ITEMS[:1], errors=nodes(asked))
        assert capsys.readouterr().out.splitlines()[0] == heading
        print_items("name", items=ITEMS[:1], errors=nodes(asked))
        assert capsys.readouterr().out == listed


def test_what_belongs_to_the_cluster_has_no_node(capsys: pytest.CaptureFixture[str]) -> None:
    print_items("text", items=[{"id": 5}], errors=nodes(2))
    assert capsys.readouterr().out.splitlines()[0] == "ID   LABELS"
    print_items("name", items=[{"id": 5}], errors=nodes(2))
    assert capsys.readouterr().out == "thing/5\n"


def test_a_node_that_did_not_answer_makes_it_several(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as exit_:
        print_items("text", items=ITEMS[:1], errors=nodes(2, Problem("n1", "gone", "look")))
    said = capsys.readouterr()
    assert exit_.value.exit_code == 1
    assert said.out.startswith("NODE   ")
    assert said.err == "Error: node n1: gone\nhint: look\n"


def test_wide_shows_all_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_items("wide")
    assert "more10" in capsys.readouterr().out


def test_json_is_the_envelope(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        print_items("json", errors=nodes(3, Problem("n3", "gone")))
    value = json.loads(capsys.readouterr().out)
    assert list(value) == ["apiVersion", "kind", "items", "errors"]
    assert (value["apiVersion"], value["kind"]) == ("ciliumpy/v1", "ThingList")
    assert [item["id"] for item in value["items"]] == [9, 10, 3]
    assert value["errors"] == [{"node": "n3", "message": "gone"}]


def test_yaml_says_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_items("json")
    as_json = json.loads(capsys.readouterr().out)
    print_items("yaml")
    assert yaml.safe_load(capsys.readouterr().out) == as_json


def test_names(capsys: pytest.CaptureFixture[str]) -> None:
    print_items("name", errors=nodes(2))
    assert capsys.readouterr().out == "thing/n1:9\nthing/n1:10\nthing/n2:3\n"
    print_items("name", items=ITEMS[:1])
    assert capsys.readouterr().out == "thing/3\n"


def test_a_hint_that_several_have_is_said_once_and_wraps(capsys: pytest.CaptureFixture[str]) -> None:
    hint = "word " * 15 + "`a command that stays in one piece` (or not) " + "w" * 100
    with pytest.raises(typer.Exit):
        print_items("text", errors=nodes(2, Problem("n1", "gone", hint), Problem("n2", "too", hint)))
    assert capsys.readouterr().err.splitlines() == [
        "Error: node n1: gone",
        "Error: node n2: too",
        "hint:" + " word" * 15,
        "      `a command that stays in one piece` (or not)",
        "      " + "w" * 100,
    ]


def test_jsonpath_ends_with_one_newline(capsys: pytest.CaptureFixture[str]) -> None:
    print_items("jsonpath={.items[*].id}")
    assert capsys.readouterr().out == "9 10 3\n"
    print_items('jsonpath={range .items[*]}{.id}{"\\n"}{end}')
    assert capsys.readouterr().out == "9\n10\n3\n"


def test_nothing_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    print_items("text", items=[], empty="No things found.")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "No things found.\n")
    print_items("json", items=[], empty="No things found.")
    said = capsys.readouterr()
    assert json.loads(said.out)["items"] == []
    assert said.err == ""


def test_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    show_one("ThingList", {"node": "n1", "id": 4}, [("Id", 4)], "json", name="4")
    assert json.loads(capsys.readouterr().out)["items"] == [{"node": "n1", "id": 4}]
    show_one("ThingList", {"node": "n1", "id": 4}, [("Id", 4)], "name", name="4")
    assert capsys.readouterr().out == "thing/4\n"


def test_description_continues_lists() -> None:
    assert description([("A", 1), ("Long", ["x", "y"])]) == "A:      1\nLong:   x\n        y\n"


def test_table_has_no_trailing_blanks() -> None:
    text = table([Column("A", lambda i: i["a"]), Column("B", lambda i: i["b"])], [{"a": "x", "b": None}])
    assert text == "A   B\nx\n"


@pytest.mark.parametrize("output", ["", "xml", "jsonpath", "JSON"])
def test_unknown_formats_are_asked_wrongly(output: str) -> None:
    with pytest.raises(CiliumpyError) as refused:
        parse_format(output)
    assert refused.value.exit_code == 2


def test_nothing_that_is_printed_drives_the_terminal() -> None:
    hostile = [{"a": "x\x1b[31m\x07\x9b2J\ny"}]
    text = table([Column("A", lambda i: i["a"])], hostile)
    assert text == "A\nx\\x1b[31m\\x07\\x9b2J\ny\n"


def test_a_name_that_stands_alone_is_printed_once_for_all_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    print_items("name", errors=nodes(2), name=lambda i: f"cnp/{i['id'] % 2}", alone=True)
    assert capsys.readouterr().out == "cnp/1\ncnp/0\n"


def test_columns_are_closer_together_where_that_makes_them_fit() -> None:
    columns = [Column("NAME", lambda i: i["id"]), Column("LABELS", lambda _: "x" * 10)]
    apart, closer = table(columns, ITEMS), table(columns, ITEMS, gap="  ")
    assert (fitted(columns, ITEMS, 0), fitted(columns, ITEMS, 17)) == (apart, apart)
    assert fitted(columns, ITEMS, 16) == closer
    assert fitted(columns, ITEMS, 15) == apart  # it does not fit anyhow
