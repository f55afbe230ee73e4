# SPDX-License-Identifier: Apache-2.0
"""Breaks documents: fields lost, misspelt, twice, elsewhere, of another type; texts cut, joined and made strange."""

from __future__ import annotations

import json
from random import Random
from typing import Any

_TEXTS = """
0 * - : = / k8s: any:app reserved:init reserved:host cidr:10.0.0.0/8 cidr:x io.kubernetes.pod.namespace 0.0.0.0/0 ::/0
10.0.0.0/8 10.1.2.3 ::ffff:10.0.0.0/104 1.2.3.4/33 fe80::1%1/64 80 080 0x50 80-90 http TCP ANY ICMPv6 EchoRequest In
Exists world cluster-mesh ( [ (?=a) a{1001} a** \\ \\Q \\z (?i)a \\pL [[:alpha:]] a{1,99999999999999999999}
"""
_STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 255, 256, 65535, 65536, 1 << 63, 1e308, 8.5),
    *("", " ", "a" * 300, "(" * 99, "(" * 5000, "[" * 200, "\x00", "\u017f", "\u0663", *_TEXTS.split()),
    *([], {}, [[]], [{}], [None], {"": ""}),
)


def mutated(random: Random, sources: tuple[str, ...]) -> dict[str, Any]:
    """One of the documents with one to four things changed."""
    document = json.loads(random.choice(sources))
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = list(_places(document))
        holder, key = random.choice(places)
        random.choice(_CHANGES)(random, holder, key, sources)
    return document


def _places(value: Any) -> list[tuple[Any, Any]]:
    found = []
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found.append((value, key))
        found += _places(value[key])
    return found


def _lose(_: Random, holder: Any, key: Any, __: tuple[str, ...]) -> None:
    del holder[key]


def _replace(random: Random, holder: Any, key: Any, _: tuple[str, ...]) -> None:
    holder[key] = json.loads(json.dumps(random.choice(_STRANGE)))


def _rename(random: Random, holder: Any, key: Any, _: tuple[str, ...]) -> None:
    if isinstance(holder, dict):
        holder[_edited(random, str(key))] = holder.pop(key)


def _edit(random: Random, holder: Any, key: Any, _: tuple[str, ...]) -> None:
    if isinstance(holder[key], str):
        holder[key] = _edited(random, holder[key])
    elif isinstance(holder[key], int | float):
        holder[key] += random.choice((-1, 1, 100, 1 << 16))


def _edited(random: Random, text: str) -> str:
    at = random.randint(0, len(text))
    piece = random.choice((*"aZ0-_./:*=, \n", "", text[at:], "é", "\u0663"))
    return text[:at] + piece + text[at + random.randint(0, 1) :]


def _repeat(random: Random, holder: Any, key: Any, _: tuple[str, ...]) -> None:
    if isinstance(holder[key], list):
        holder[key] = holder[key] * random.choice((2, 2, 41))
    elif isinstance(holder, list):
        holder.insert(key, holder[key])


def _wrap(random: Random, holder: Any, key: Any, _: tuple[str, ...]) -> None:
    value = holder[key]
    holder[key] = random.choice(
        ([value], {"matchLabels": value}, value[0] if isinstance(value, list) and value else [value])
    )


def _graft(random: Random, holder: Any, key: Any, sources: tuple[str, ...]) -> None:
    """Another policy's part here."""
    other, at = random.choice(_places(json.loads(random.choice(sources))))
    if random.random() < 0.5 or not isinstance(holder, dict):
        holder[key] = other[at]
    else:
        holder[str(at)] = other[at]


_CHANGES = (_lose, _replace, _replace, _rename, _edit, _edit, _repeat, _wrap, _graft, _graft)
