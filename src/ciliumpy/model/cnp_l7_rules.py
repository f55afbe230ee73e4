# SPDX-License-Identifier: Apache-2.0
"""What a rule asks of a proxy, protocol by protocol: checked, and put into a few words each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciliumpy.model import regexes
from ciliumpy.model.cnp_dns import decode_dns_name
from ciliumpy.model.errors import FieldError
from ciliumpy.model.fields import Fields, as_text, meant

if TYPE_CHECKING:
    from ciliumpy.model.errors import Path

    Items = list[tuple[Any, Path]]

_MISMATCHES = ("LOG", "ADD", "DELETE", "REPLACE")


def decode_http(items: Items) -> list[str]:
    return [_request(Fields(value, at)) for value, at in items]


def _request(fields: Fields) -> str:
    method, host, path = (_expression(fields, name) for name in ("method", "host", "path"))
    for value, at in fields.items("headers") or ():
        as_text(value, at)
    for value, at in fields.items("headerMatches") or ():
        _header(Fields(value, at))
    hints = dict.fromkeys(("port", "ports", "protocol"), "unknown field: ports stand beside rules")
    fields.finish(hints | {"headerMatch": "unknown field, did you mean headerMatches?"})
    words = [method, host + path]
    headers = "with headers" if fields.get("headers") or fields.get("headerMatches") else ""
    return " ".join(word for word in (*words, headers) if word) or "any request"


def _expression(fields: Fields, name: str) -> str:
    text = fields.text(name) or ""
    if fault := regexes.fault(text):
        raise FieldError(fields.at(name), f"{text[:80]!r} is not a regular expression: {fault}")
    return text


def _header(fields: Fields) -> None:
    if not fields.text("name"):
        raise fields.missing("name")
    mismatch = fields.text("mismatch")
    if mismatch and mismatch not in _MISMATCHES:
        said = f"must be one of {', '.join(_MISMATCHES)}, not {mismatch[:80]!r}{meant(mismatch, _MISMATCHES)}"
        raise FieldError(fields.at("mismatch"), said)
    if (secret := fields.fields("secret")) is not None:
        if not secret.text("name"):
            raise secret.missing("name")
        secret.text("namespace")
        secret.finish()
    fields.text("value")
    fields.finish()


def decode_dns(items: Items) -> list[str]:
    return [decode_dns_name(Fields(value, at)) for value, at in items]


def decode_legacy(proto: str, items: Items) -> list[str]:
    """Rules of keys and values for a protocol that a plug-in of the proxy knew."""
    for value, at in items:
        fields = Fields(value, at)
        for key in fields.names():
            fields.text(key)
    return [proto]
