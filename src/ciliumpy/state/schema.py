# SPDX-License-Identifier: Apache-2.0
"""What settings there are: their keys, types, units, defaults and meaning, read from the structs that declare them.

A field is described where it is declared: `Annotated[int, about("How many flows are kept.", unit="flows")]`.
"""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

PREFIX = "CILIUMPY_"
FIRST = "0.1.0"  # the version from which a key is there, if it does not say another


class Field(msgspec.Struct, frozen=True):
    """One key. `kind` is its type in words; a required one has no default."""

    key: str
    type: Any
    kind: str
    unit: str
    default: Any
    required: bool
    description: str
    environment: str
    since: str


def about(text: str, *, unit: str = "", since: str = FIRST) -> msgspec.Meta:
    """Return what a field says of itself, for `Annotated`."""
    return msgspec.Meta(description=text, extra={"unit": unit, "since": since})


def fields(of: type[msgspec.Struct], prefix: str = "") -> dict[str, Field]:
    """Return all keys of a struct of structs, in the order in which they are declared."""
    found: dict[str, Field] = {}
    for each in msgspec.structs.fields(of):
        key = prefix + each.encode_name
        if inspect.isclass(each.type) and issubclass(each.type, msgspec.Struct):
            found |= fields(each.type, key + ".")
        else:
            found[key] = _field(key, each)
    return found


def _field(key: str, declared: msgspec.structs.FieldInfo) -> Field:
    default = declared.default_factory() if declared.default_factory is not msgspec.NODEFAULT else declared.default
    description, extra = "", {"unit": "", "since": FIRST}
    for meta in metas(declared.type):
        description = meta.description or description
        extra |= meta.extra or {}
    return Field(
        key,
        declared.type,
        kind(declared.type),
        extra["unit"],
        None if declared.required else default,
        declared.required,
        description,
        PREFIX + environment_name(key),
        extra["since"],
    )


def metas(wanted: Any) -> list[msgspec.Meta]:
    """Return what an annotation says besides the type."""
    return [each for each in getattr(wanted, "__metadata__", ()) if isinstance(each, msgspec.Meta)]


def bare(wanted: Any) -> Any:
    return get_args(wanted)[0] if get_origin(wanted) is Annotated else wanted


def is_list(wanted: Any) -> bool:
    return get_origin(bare(wanted)) in (tuple, list)


def kind(wanted: Any) -> str:
    """Return a type in words: `integer, 1 to 65535`, `one of debug, info`, `list of strings`."""
    plain, limits = bare(wanted), metas(wanted)
    origin, parts = get_origin(plain), get_args(plain)
    if origin is Literal:
        return f"one of {', '.join(str(each) for each in parts)}" if len(parts) > 1 else f"always {parts[0]}"
    if origin in (tuple, list):
        word = kind(parts[0])
        return f"list of {word}" if word.startswith("one of ") else f"list of {word}s"
    if origin is dict:
        return f"mapping of {kind(parts[1])}s"
    if origin is Union:
        return " or ".join(kind(part) for part in parts)
    if plain is int:
        low = next((meta.ge for meta in reversed(limits) if meta.ge is not None), None)
        high = next((meta.le for meta in reversed(limits) if meta.le is not None), None)
        if low is None and high is None:
            return "integer"
        return f"integer, {low} or more" if high is None else f"integer, {low} to {high}"
    return {str: "string", bool: "boolean", float: "number"}.get(plain, getattr(plain, "__name__", str(plain)))


def environment_name(key: str) -> str:
    """Return a key as it stands in the environment, without PREFIX.

    network.tunnelPort is NETWORK_TUNNEL_PORT; a run of capitals is one word: podCIDRs is POD_CIDRS.
    """
    name = ""
    for index, letter in enumerate(key):
        if letter == ".":
            name += "_"
            continue
        if letter.isupper() and index and key[index - 1].islower():
            name += "_"
        name += letter.upper()
    return name
