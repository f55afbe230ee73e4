# SPDX-License-Identifier: Apache-2.0
"""JSON by the interpreter's own C parts: importing `json` would be a quarter of the plugin's life (it brings `re`).

`_json` is what `json` itself stands on; an interpreter without it gets `json`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WHITESPACE = " \t\n\r"


class _Context:
    """What the scanner asks its owner for: plain JSON, as `json.JSONDecoder` has it."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}  # noqa: RUF012 - of keys; a process reads two documents

    parse_constant = float  # NaN and the infinities


def loads(data: bytes) -> Any:
    """Decode one JSON document in UTF-8. ValueError or RecursionError: it is none."""
    text = data.decode("utf-8")
    try:
        from _json import make_scanner

        first = len(text) - len(text.lstrip(_WHITESPACE))
        value, end = make_scanner(_Context())(text, first)  # type: ignore[arg-type]
        if not text[end:].strip(_WHITESPACE):
            return value
    except (ImportError, StopIteration, SystemError, ValueError):
        pass  # SystemError: it wants to raise json.JSONDecodeError, which nobody has imported
    import json

    return json.loads(text)  # says what is wrong, and where


def dumps(value: Any) -> str:
    """Encode compactly, in ASCII."""
    try:
        from _json import encode_basestring_ascii, make_encoder
    except ImportError:
        import json

        return json.dumps(value)
    encode = make_encoder({}, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, False)
    return "".join(encode(value, 0))


def _refuse(value: object) -> object:
    raise TypeError(f"{value!r} is not JSON")
