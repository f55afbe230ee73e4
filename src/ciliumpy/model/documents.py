# SPDX-License-Identifier: Apache-2.0
"""YAML and JSON text into plain values, strictly: what two readers could read differently is refused.

The rules are those of YAML 1.2's core schema: `yes`, `on`, `022` and dates are text. Keys are text whatever they look
like, as in Kubernetes. Refused are duplicate keys, merge keys, tags, and what would take too long or too much: input
is hostile until it is read. Values share memory where the text has aliases, so nobody changes them.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

from yaml import MarkedYAMLError, YAMLError, dump_all
from yaml.cyaml import CParser, CSafeDumper  # type: ignore[attr-defined]
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

if TYPE_CHECKING:
    from ciliumpy.model.errors import Path

MOST_BYTES = 1 << 20
MOST_DEPTH = 100
MOST_NODES = 50_000  # of a document, with every alias written out; 0.1 s to read
MOST_DIGITS = 40
MOST_MESSAGE = 200

_NUMBER = re.compile(r"[-+]?(?:(?P<int>0|[1-9][0-9]*)|(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)")
_BASED = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
_WORDS: dict[str, bool | None] = dict.fromkeys(("", "~", "null", "Null", "NULL"))
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_NUMERIC = frozenset("+-.0123456789")
_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")


_NODE_EVENTS = (ScalarEvent, MappingStartEvent, SequenceStartEvent, AliasEvent)


class Limits(NamedTuple):
    """How much a text may hold: bytes, and values in all its documents. One document has MOST_NODES at most."""

    octets: int
    nodes: int


STORED = Limits(MOST_BYTES, MOST_NODES)  # what an agent reads in its loop
GIVEN = Limits(64 << 20, 5_000_000)  # what a command is given by its own user


class DocumentError(Exception):
    """Text that is no document, and where: line and column are 1-based, 0 where unknown."""

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        message = message if len(message) <= MOST_MESSAGE else message[:MOST_MESSAGE] + "…"
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


Marks = dict["Path", tuple[int, int]]


class _Places:
    """Where the fields of a text's documents stand: found when first asked for, for all of them at once."""

    def __init__(self, text: str, limits: Limits) -> None:
        self._text = text
        self._limits = limits

    @cached_property
    def marks(self) -> list[Marks]:
        """Return line and column by path, for each document in the text, the empty ones too."""
        marks: list[Marks] = []
        with suppress(DocumentError):  # JSON that is not YAML: it escapes surrogates
            _Reader(self._text, self._limits, marks).read()
        return marks

    @cached_property
    def _lines(self) -> list[str]:
        return self._text.splitlines()

    def line(self, number: int) -> str:
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""


class Document:
    """One document of a text: its value, and where its fields stand. `index` counts the empty ones too."""

    def __init__(self, value: Any, line: int, places: _Places, index: int = 0, root: Path = ()) -> None:
        self.value = value
        self._line = line
        self._places = places
        self._index = index
        self._root = root

    @property
    def line(self) -> int:
        return self.position(())[0] if self._root else self._line

    def source(self, line: int) -> str:
        """Return a line of the text, 1-based, without its end; empty if there is none."""
        return self._places.line(line)

    def part(self, value: Any, path: Path) -> Document:
        """Return what stands at the path as a document of its own."""
        return Document(value, self._line, self._places, self._index, (*self._root, *path))

    def position(self, path: Path) -> tuple[int, int]:
        """Return line and column, 1-based, of the field; of what is nearest above it if it is not in the text."""
        path = (*self._root, *path)
        every = self._places.marks
        marks = every[self._index] if self._index < len(every) else {}
        while path and path not in marks:
            path = path[:-1]
        return marks.get(path, (self._line, 1))


def parse(data: bytes, limits: Limits = STORED) -> list[Document]:
    """Return the documents of a text, without the empty ones. Raise DocumentError if any of it cannot be read."""
    if len(data) > limits.octets:
        raise DocumentError(f"is larger than {limits.octets >> 20} MiB; split it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DocumentError("is not UTF-8 text", line) from None
    if text.lstrip()[:1] == "{":
        try:
            value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_int=_json_int)
            _check_depth(value)
            if "\\u" in text:
                json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is text that nobody can write
        except (ValueError, RecursionError):
            pass  # YAML in braces, or an error that the other reader locates
        else:
            return [Document(value, 1, _Places(text, limits))]
    return _Reader(text, limits).read()


def dump(*values: Any) -> bytes:
    """Return the values as YAML documents that `parse` reads back as they are."""
    text: str = dump_all(
        values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, explicit_start=len(values) > 1
    )
    return text.encode()


class _Dumper(CSafeDumper):
    """Quotes what either YAML, 1.1 or 1.2, would take for something else than text; writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _represent_text(dumper: _Dumper, text: str) -> Any:
    style = '"' if text and _plain(text) is not text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError
    return value


def _refuse(_text: str) -> NoReturn:
    raise ValueError


def _json_int(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError
    return int(text)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_DEPTH):
        if not level:
            return
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
    raise ValueError


class _Node:
    """A mapping or list that is being read."""

    __slots__ = ("anchor", "key", "keys", "path", "value", "weight")

    def __init__(self, value: dict[str, Any] | list[Any], anchor: str | None, path: Path) -> None:
        self.value = value
        self.anchor = anchor
        self.path = path
        self.key: str | None = None
        self.keys: dict[str, int] = {}  # key -> line
        self.weight = 1


class _Reader:
    """Reads events one by one, so that depth and size are known before memory is taken.

    `places`, if there is one, gets the places of all fields, document by document.
    """

    def __init__(self, text: str, limits: Limits, places: list[Marks] | None = None) -> None:
        self._text = text
        self._limits = limits
        self._places = places
        self._marks: Marks | None = None
        self._stack: list[_Node] = []
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        self._root: Any = None
        self._nodes = 0

    def read(self) -> list[Document]:
        documents: list[Document] = []
        index = line = 0
        places = _Places(self._text, self._limits)
        try:
            parser = CParser(self._text)
            while True:
                event = parser.get_event()
                if isinstance(event, _NODE_EVENTS):
                    line = line or _place(event)[0]
                    self._node(event)
                elif isinstance(event, CollectionEndEvent):
                    self._end()
                elif isinstance(event, DocumentStartEvent):
                    self._begin()
                    line = 0
                elif isinstance(event, DocumentEndEvent):
                    if self._root is not None:
                        documents.append(Document(self._root, line or 1, places, index))
                    index += 1
                elif isinstance(event, StreamEndEvent):
                    return documents
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            text = ", ".join(part for part in (error.context, error.problem) if part)
            raise DocumentError(text, *((mark.line + 1, mark.column + 1) if mark else (0, 0))) from None
        except YAMLError as error:
            raise DocumentError(str(error).partition("\n")[0]) from None

    def _begin(self) -> None:
        self._root = None
        self._anchors = {}
        if self._places is not None:
            self._marks = {}
            self._places.append(self._marks)

    def _node(self, event: ScalarEvent | SequenceStartEvent | MappingStartEvent | AliasEvent) -> None:
        parent = self._stack[-1] if self._stack else None
        if parent is not None and isinstance(parent.value, dict) and parent.key is None:
            self._key(parent, event)
            return
        path: Path = ()
        if self._marks is not None:
            if parent is not None:
                step = cast("str", parent.key) if isinstance(parent.value, dict) else len(parent.value)
                path = (*parent.path, step)
            self._marks.setdefault(path, _place(event))
        if isinstance(event, AliasEvent):
            self._add(parent, *self._alias(event), _place(event))
            return
        if isinstance(event, ScalarEvent):
            value = _scalar(event)
            if event.anchor:
                self._anchors[event.anchor] = (value, 1)
            self._add(parent, value, 1, _place(event))
            return
        if event.tag is not None:
            _fail(event, f"the tag {event.tag} is not accepted")
        if len(self._stack) >= MOST_DEPTH:
            _fail(event, f"is nested deeper than {MOST_DEPTH} levels")
        if event.anchor:
            self._anchors[event.anchor] = None
        self._stack.append(_Node({} if isinstance(event, MappingStartEvent) else [], event.anchor, path))

    def _key(self, parent: _Node, event: Event) -> None:
        if not isinstance(event, ScalarEvent):
            _fail(event, "a key must be text")
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            _fail(event, f"the tag {event.tag} is not accepted")
        key = event.value
        if key == "<<" and event.implicit[0]:
            _fail(event, "merge keys (<<) are not accepted: write the fields out")
        if key in parent.keys:
            _fail(event, f"the key {key} stands here twice, first in line {parent.keys[key]}")
        parent.keys[key] = _place(event)[0]
        parent.key = key
        if event.anchor:
            self._anchors[event.anchor] = (key, 1)
        if self._marks is not None:
            self._marks[*parent.path, key] = _place(event)

    def _alias(self, event: AliasEvent) -> tuple[Any, int]:
        if event.anchor not in self._anchors:
            _fail(event, f"the alias *{event.anchor} has no anchor before it")
        found = self._anchors[event.anchor]
        if found is None:
            _fail(event, f"the alias *{event.anchor} stands inside of what it names")
        return found

    def _add(self, parent: _Node | None, value: Any, weight: int, place: tuple[int, int]) -> None:
        self._nodes += 1
        if parent is None:
            self._root = value
        else:
            parent.weight += weight
            if isinstance(parent.value, dict):
                parent.value[cast("str", parent.key)] = value
                parent.key = None
            else:
                parent.value.append(value)
        if self._nodes > self._limits.nodes:
            raise DocumentError(f"has more than {self._limits.nodes} values; split it", *place)
        if parent is not None and parent.weight > MOST_NODES:
            raise DocumentError(f"has more than {MOST_NODES} values with all aliases written out", *place)

    def _end(self) -> None:
        node = self._stack.pop()
        if node.anchor:
            self._anchors[node.anchor] = (node.value, node.weight)
        parent = self._stack[-1] if self._stack else None
        self._add(parent, node.value, node.weight, (0, 0))


def _scalar(event: ScalarEvent) -> Any:
    text = event.value
    if event.tag is not None:
        if event.tag in _TEXT_TAGS:
            return text
        _fail(event, f"the tag {event.tag} is not accepted")
    if not event.implicit[0]:
        return text
    value = _plain(text)
    if value is _TOO_LONG:
        _fail(event, f"a number of more than {MOST_DIGITS} digits; put it in quotes if it is text")
    return value


_TOO_LONG = object()


def _plain(text: str) -> Any:
    """What text without quotes is."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC:
        return text
    number = _NUMBER.fullmatch(text)
    if number is None and not _BASED.fullmatch(text):
        return text
    if len(text) > MOST_DIGITS:
        return _TOO_LONG
    if number is None:
        return int(text, 0)
    return int(text) if number["int"] else float(text)


def _place(event: Event) -> tuple[int, int]:
    mark = event.start_mark  # never None in what the parser gives
    return cast("int", mark.line) + 1, cast("int", mark.column) + 1  # type: ignore[union-attr]


def _fail(event: Event, message: str) -> NoReturn:
    raise DocumentError(message, *_place(event))
