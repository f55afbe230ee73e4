# SPDX-License-Identifier: Apache-2.0
r"""The part of kubectl's JSONPath templates that people use, without eval.

`{.items[*].id}`  `{.items[0]}`  `{.items[-1:].id}`  `{..ipv4}`  `{['a','b']}`  `{.items[?(@.state=="ready")].id}`
`{range .items[*]}{.node}{"\t"}{.id}{"\n"}{end}`. A key that is not there is nothing, not an error. Several results
are printed with a blank between them, objects as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from ciliumpy.kit.errors import CiliumpyError

Step = Callable[[list[Any]], list[Any]]

NAME = re.compile(r"[A-Za-z0-9_\-/]+|\*")
SLICE = re.compile(r"(-?\d*):(-?\d*)(?::(\d+))?$")
FILTER = re.compile(r"\?\(\s*(?P<left>@[^\s=!<>]*)\s*(?:(?P<op>==|!=|<=|>=|<|>)\s*(?P<right>.+?)\s*)?\)$")
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def render(template: str, value: Any) -> str:
    """Return the template's text for `value`. CiliumpyError (exit code 2) if the template is none."""
    if "{" not in template:
        template = "{" + template + "}"
    out, rest = _render(_tokens(template), 0, value, value)
    if rest is not None:
        raise _refused(template, "{end} without {range}")
    return out


def _tokens(template: str) -> list[str]:
    """Return text and `{...}` parts, in order; a part keeps its opening brace as a mark."""
    tokens: list[str] = []
    at = 0
    while at < len(template):
        opening = template.find("{", at)
        if opening < 0:
            opening = len(template)
        if opening > at:
            tokens.append("=" + template[at:opening])
        if opening == len(template):
            break
        closing = _closing(template, opening)
        tokens.append("{" + template[opening + 1 : closing].strip())
        at = closing + 1
    return tokens


def _closing(template: str, opening: int) -> int:
    quote = ""
    for i in range(opening + 1, len(template)):
        character = template[i]
        if quote:
            quote = "" if character == quote and template[i - 1] != "\\" else quote
        elif character in "'\"":
            quote = character
        elif character == "}":
            return i
    raise _refused(template, "a brace is not closed")


def _render(tokens: list[str], at: int, root: Any, here: Any) -> tuple[str, int | None]:
    """Return the text, and where an `{end}` stopped it."""
    out: list[str] = []
    while at < len(tokens):
        text = tokens[at][1:]
        at += 1
        if tokens[at - 1][0] == "=":
            out.append(text)
        elif text == "end":
            return "".join(out), at
        elif text.startswith("range "):
            after: int | None = None
            for each in find(text[6:].strip(), root, here):
                part, after = _render(tokens, at, root, each)
                out.append(part)
            at = after if after is not None else _skip(tokens, at)
        elif text[:1] in ("'", '"'):
            out.append(_unquote(text))
        else:
            out.append(" ".join(_text(each) for each in find(text, root, here)))
    return "".join(out), None


def _skip(tokens: list[str], at: int) -> int:
    depth = 1
    while at < len(tokens):
        depth += tokens[at].startswith("{range ") - (tokens[at] == "{end")
        at += 1
        if not depth:
            return at
    raise _refused("{range}", "there is no {end} for it")


def find(path: str, root: Any, here: Any) -> list[Any]:
    """Return what a path picks, from the root for `$`, else from `here`."""
    values = [root] if path.startswith("$") else [here]
    at = 1 if path[:1] in ("$", "@") else 0
    while at < len(path):
        if path.startswith("..", at):
            values, at = list(_deep(values)), at + 2
            if at < len(path) and path[at] != "[":
                values, at = _named(path, at, values)
        elif path[at] == "[":
            end = _bracket(path, at)
            values, at = _indexed(path, path[at + 1 : end].strip(), values, root), end + 1
        else:
            at += path[at] == "."
            if at < len(path):
                values, at = _named(path, at, values)
    return values


def _named(path: str, at: int, values: list[Any]) -> tuple[list[Any], int]:
    match = NAME.match(path, at)
    if match is None:
        raise _refused(path, f"{path[at:]!r} is not understood")
    return _child(values, match[0]), match.end()


def _child(values: Iterable[Any], key: str) -> list[Any]:
    if key == "*":
        return [child for value in values for child in _children(value)]
    return [value[key] for value in values if isinstance(value, dict) and key in value]


def _indexed(path: str, inside: str, values: list[Any], root: Any) -> list[Any]:
    if inside == "*":
        return _child(values, "*")
    if inside.startswith("?"):
        return _filtered(path, inside, values, root)
    lists = [value for value in values if isinstance(value, list)]
    if match := SLICE.match(inside):
        start, stop, step = (int(part) if part else None for part in match.groups())
        return [each for value in lists for each in value[start : stop : step or None]]
    found: list[Any] = []
    for part in re.split(r",(?=(?:[^'\"]|'[^']*'|\"[^\"]*\")*$)", inside):
        key = part.strip()
        if key[:1] in ("'", '"'):
            found += _child(values, _unquote(key))
        elif re.fullmatch(r"-?\d+", key):
            index = int(key)
            found += [value[index] for value in lists if -len(value) <= index < len(value)]
        else:
            raise _refused(path, f"[{inside}] is not understood")
    return found


def _filtered(path: str, inside: str, values: list[Any], root: Any) -> list[Any]:
    match = FILTER.match(inside)
    if match is None:
        raise _refused(path, f"[{inside}] is not understood")
    kept = []
    for each in _child(values, "*"):
        left = find(match["left"], root, each)
        if match["op"] is None:
            keep = bool(left)
        else:
            right = find(match["right"], root, each) if match["right"][0] in "@$" else [_literal(path, match["right"])]
            keep = bool(left) and bool(right) and _compare(match["op"], left[0], right[0])
        if keep:
            kept.append(each)
    return kept


def _compare(operator: str, left: Any, right: Any) -> bool:
    try:
        return COMPARE[operator](left, right)
    except TypeError:
        return False


def _literal(path: str, text: str) -> Any:
    if text[0] in "'\"":
        return _unquote(text)
    try:
        return json.loads(text)
    except ValueError as error:
        raise _refused(path, f"{text!r} is not a value") from error


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _deep(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        yield value
        yield from _deep(_children(value))


def _bracket(path: str, at: int) -> int:
    quote, depth = "", 0
    for i in range(at, len(path)):
        if quote:
            quote = "" if path[i] == quote else quote
        elif path[i] in "'\"":
            quote = path[i]
        else:
            depth += (path[i] == "[") - (path[i] == "]")
            if not depth:
                return i
    raise _refused(path, "a bracket is not closed")


def _unquote(text: str) -> str:
    if len(text) < 2 or text[-1] != text[0]:
        raise _refused(text, "a quote is not closed")
    inner = text[1:-1]
    for escaped, plain in (("\\n", "\n"), ("\\t", "\t"), ('\\"', '"'), ("\\'", "'"), ("\\\\", "\\")):
        inner = inner.replace(escaped, plain)
    return inner


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _refused(what: str, why: str) -> CiliumpyError:
    return CiliumpyError(f"jsonpath {what!r}: {why}", "for instance '{.items[*].node}'", exit_code=2)
