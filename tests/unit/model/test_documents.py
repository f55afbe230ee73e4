# SPDX-License-Identifier: Apache-2.0
"""The strict reader: what it takes, what it refuses and where, and that nothing keeps it busy for long."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciliumpy.model import documents as documents_module
from ciliumpy.model.documents import MOST_BYTES, DocumentError, dump, parse

POLICY = b"""\
# a comment
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
spec:
  ingress:
    - toPorts:
        - ports:
            - port: "8080"
              protocol: TCP
---
---
kind: Second
"""

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
awkward = st.sampled_from(
    [
        "yes",
        "on",
        "null",
        "~",
        "",
        "1e3",
        "0o17",
        "010",
        "0x1f",
        "1_000",
        "22:30",
        "2020-01-01",
        "=",
        "- a",
        "a: b",
        "#",
        "\t",
    ]
)
keys = texts.filter(lambda key: key != "<<")


def values_of(text: st.SearchStrategy[str]) -> st.SearchStrategy:
    """Whatever a document can hold, with such texts in it."""
    scalars = st.one_of(st.none(), st.booleans(), st.integers(-(10**18), 10**18), text)
    return st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(text.filter(lambda k: k != "<<"), inner, max_size=4)
        ),
        max_leaves=12,
    )


@settings(deadline=None)
@given(value=st.dictionaries(keys, values_of(st.one_of(texts, awkward)), min_size=1, max_size=4))
def test_what_is_written_is_read_back(value: dict) -> None:
    (document,) = parse(dump(value))
    assert document.value == value


@settings(deadline=None)
@given(value=st.dictionaries(st.text('abc "\\:{é'), values_of(st.text("abc 019.-#'\"\\:{é")), min_size=1, max_size=4))
def test_json_is_read_by_either_reader(value: dict) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert parse(text.encode())[0].value == value
    assert parse(b"\n--- " + text.encode())[0].value == value


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_anything_is_read_or_refused(data: bytes) -> None:
    with suppress(DocumentError):
        parse(data)


@settings(deadline=None)
@given(data=st.text("{}[]:-,&*!|>'\"%@`#?\n a1", max_size=60))
def test_anything_that_looks_like_yaml_too(data: str) -> None:
    with suppress(DocumentError):
        for document in parse(data.encode()):
            document.position(("a", 0, "b"))


def test_documents_and_places() -> None:
    first, second = parse(POLICY)
    assert (first.line, second.line) == (2, 12)
    path = ("spec", "ingress", 0, "toPorts", 0, "ports", 0, "port")
    assert first.position(path) == (8, 15)
    assert first.position(("spec", "ingress", 0)) == (6, 7)
    assert first.position((*path, "deeper")) == (8, 15)
    assert first.position(("spec", "egress")) == (4, 1)
    assert second.position(("kind",)) == (12, 1)
    part = first.part(first.value["spec"], ("spec",))
    assert part.position(("ingress",)) == (5, 3)
    assert part.line == 4


def test_places_in_json() -> None:
    (document,) = parse(b'{\n  "spec": {\n    "a": [1,\n 2]\n  }\n}')
    assert document.position(("spec", "a", 1))[0] == 4
    (document,) = parse(b'{\n\t"spec": {\n\t\t"a": 1\n\t}\n}')
    assert document.position(("spec", "a")) == (3, 3)
    (document,) = parse(b'{\n"a": "\\ud83d\\ude00"}')
    assert document.value == {"a": "\U0001f600"}
    assert document.position(("a",)) == (2, 1), "found, though YAML knows no surrogates"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"), ("off", "off"), ("True", True), ("~", None), ("null", None), ("010", "010"), ("0o17", 15),
        ("0x1F", 31), ("-7", -7), ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("1_000", "1_000"), ("22:30", "22:30"),
        ("2020-01-01", "2020-01-01"), ("'1'", "1"), ('"true"', "true"), ("!!str 5", "5"), ("! 5", "5"),
    ],
)  # fmt: skip
def test_plain_text_is_what_yaml_1_2_says(text: str, value: object) -> None:
    assert parse(f"a: {text}\n".encode())[0].value == {"a": value}


def test_keys_are_text() -> None:
    assert parse(b"1: a\ntrue: b\nnull: c\n")[0].value == {"1": "a", "true": "b", "null": "c"}


def test_aliases_are_written_out() -> None:
    assert parse(b"a: &x {b: 1}\nc: [*x, *x]\n")[0].value == {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]}


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        (b"a: 1\nb: 2\na: 3\n", "the key a stands here twice, first in line 1", (3, 1)),
        (b'{"a": 1,\n "a": 2}', "the key a stands here twice, first in line 1", (2, 2)),
        (b"a:\n  b: [1\n", "while parsing a flow sequence, did not find expected ',' or ']'", (3, 1)),
        (b"a: b: c\n", "mapping values are not allowed in this context", (1, 5)),
        (b"a: b\n\tc: d\n", "while scanning a plain scalar, found a tab character that violates indentation", (2, 1)),
        (
            b"a: !!python/name:os x\n",
            "the tag tag:yaml.org,2002:python/name:os is not accepted",
            (1, 4),
        ),
        (b"a: !!binary aGk=\n", "the tag tag:yaml.org,2002:binary is not accepted", (1, 4)),
        (b"a: &x {b: 1}\nc:\n  <<: *x\n", "merge keys (<<) are not accepted: write the fields out", (3, 3)),
        (b"? [a]\n: b\n", "a key must be text", (1, 3)),
        (b"a: *x\n", "the alias *x has no anchor before it", (1, 4)),
        (b"a: &x [*x]\n", "the alias *x stands inside of what it names", (1, 8)),
        (b"a: 1\nb: \xff\n", "is not UTF-8 text", (2, 0)),
        (b"a: " + b"9" * 41, "a number of more than 40 digits; put it in quotes if it is text", (1, 4)),
        (
            b'{"a":\n "\\ud800"}',
            "while parsing a quoted scalar, found invalid Unicode character escape code",
            (2, 5),
        ),
        (b"a: \x00\n", "unacceptable character #x0000: control characters are not allowed", (0, 0)),
    ],
)
def test_what_is_refused_and_where(text: bytes, message: str, place: tuple[int, int]) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(text)
    assert (caught.value.message, (caught.value.line, caught.value.column)) == (message, place)


def test_the_places_of_many_documents_are_found_at_once() -> None:
    documents = parse(b"---\na: [1]\n---\n" * 10_000)
    with CountedParsers() as counted:
        places = [document.position(("a", 0)) for document in documents]
    assert places == [(line, 5) for line in range(2, 30_002, 3)]
    assert counted.made == 1, "a text is read again for its places, not for each document's"


class CountedParsers:
    """Counts how often the text is parsed; the real parser does it."""

    def __init__(self) -> None:
        self.made = 0

    def __enter__(self) -> Self:
        self._parser = documents_module.CParser
        documents_module.CParser = self
        return self

    def __exit__(self, *_: object) -> None:
        documents_module.CParser = self._parser

    def __call__(self, text: str) -> Any:
        self.made += 1
        return self._parser(text)


def laughs() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (laughs(), "values with all aliases written out"),
        (b"[" * (MOST_BYTES // 2), "is nested deeper than"),
        (b"- " * (MOST_BYTES // 2), "is nested deeper than"),
        (b'{"a":' * (MOST_BYTES // 6), "is nested deeper than"),
        (b"? " * (MOST_BYTES // 2), "a key must be text"),
        (b"- a\n" * (MOST_BYTES // 4), "values with all aliases written out"),
        (b"--- a\n" * (MOST_BYTES // 7), "has more than 50000 values; split it"),
        (b"&a " * (MOST_BYTES // 4), "did not find expected"),
        (b"!" * (MOST_BYTES // 2), "the tag tag:yaml.org"),
        (b"'" + b"a" * (MOST_BYTES // 2), "unexpected end of stream"),
        (b"a" * (MOST_BYTES + 1), "is larger than 1 MiB"),
    ],
    ids=["laughs", "flow", "block", "json", "keys", "long", "documents", "anchors", "tag", "quote", "large"],
)
def test_bombs_are_refused_before_they_go_off(data: bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=message) as caught:
        parse(data)
    assert len(caught.value.message) < 250
