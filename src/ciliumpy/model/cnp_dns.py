# SPDX-License-Identifier: Apache-2.0
"""DNS names of a CiliumNetworkPolicy: of peers, and of the questions that a rule allows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ciliumpy.model.errors import FieldError

if TYPE_CHECKING:
    from ciliumpy.model.fields import Fields

LONGEST_NAME = 255
_HINTS = {
    "name": "unknown field, did you mean matchName?",
    "matchRegex": "unknown field: write matchPattern, in which * is any text",
}
_DNS_NAME = re.compile(r"[-a-zA-Z0-9_.]+", re.ASCII)
_DNS_PATTERN = re.compile(r"[-a-zA-Z0-9_.*]+", re.ASCII)


def decode_dns_name(fields: Fields) -> str:
    """A matcher of names, as written: exactly one of matchName and matchPattern."""
    name, pattern = fields.text("matchName"), fields.text("matchPattern")
    fields.finish(_HINTS)
    if bool(name) == bool(pattern):
        raise FieldError(fields.path, "must have either matchName or matchPattern")
    for field, text, allowed in (("matchName", name, _DNS_NAME), ("matchPattern", pattern, _DNS_PATTERN)):
        if text and len(text) > LONGEST_NAME:
            raise FieldError(fields.at(field), f"has {len(text)} characters, a DNS name at most {LONGEST_NAME}")
        if text and not allowed.fullmatch(text):
            raise FieldError(fields.at(field), f"{text[:80]!r} is not a DNS name{_dns_hint(text, field)}")
    return name or pattern or ""


def _dns_hint(text: str, field: str) -> str:
    if "*" in text and field == "matchName":
        return ": * is for matchPattern"
    if "://" in text or "/" in text:
        return ": write the host name alone"
    if ":" in text:
        return ": the port stands in toPorts"
    return ": letters, digits, '-', '_' and '.'"
