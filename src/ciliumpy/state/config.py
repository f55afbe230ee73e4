# SPDX-License-Identifier: Apache-2.0
"""Configuration: one frozen struct of parts, filled from five places, each value knowing where it came from.

Flag > environment `CILIUMPY_<PART>_<KEY>` > directory (one file a key, as a mounted ConfigMap) > YAML file > default.
A key that nobody knows, a value that does not fit: an error that names the place, and a suggestion where one is near.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.model.documents import DocumentError, parse
from ciliumpy.state import schema

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ciliumpy.state.schema import Field

T = TypeVar("T", bound=msgspec.Struct)
PREFIX = "CILIUMPY_"


class Given(msgspec.Struct, frozen=True):
    """What one place says of a key: `flag KEY`, `environment NAME`, `file PATH:LINE`, `default`, or `run time`."""

    source: str
    value: Any


class Setting(msgspec.Struct, frozen=True):
    """A value in force, where it came from, and what else was said of it and lost, the nearest to winning first."""

    key: str
    value: Any
    source: str
    lost: tuple[Given, ...] = ()


class Config(Generic[T]):
    """The filled struct, and the story of each of its values."""

    def __init__(self, value: T, settings: Mapping[str, Setting]) -> None:
        self.value = value
        self._settings = settings

    def explain(self, key: str) -> Setting:
        """Return the value of `part.key` and its source. CiliumpyError if there is no such key."""
        setting = self._settings.get(key)
        if setting is None:
            raise _unknown(key, "", self._settings)
        return setting

    def settings(self) -> list[Setting]:
        """Return all settings, sorted by key."""
        return [self._settings[key] for key in sorted(self._settings)]

    def with_value(self, key: str, text: str, source: str) -> Config[T]:
        """Return this configuration with another value of one key, given as text. CiliumpyError if it does not fit."""
        former = self.explain(key)
        value = _fit(key, _Said(text, source, text=True), schema.fields(type(self.value))[key].type)
        lost = tuple(each for each in (Given(former.source, former.value), *former.lost) if each.source != source)
        settings = {**self._settings, key: Setting(key, value, source, lost)}
        return Config(_replaced(self.value, key.split("."), value), settings)


class _Said(msgspec.Struct, frozen=True):
    value: Any
    source: str
    text: bool  # from a place that has only text


def load(
    parts: type[T],
    *,
    flags: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    directory: Path | None = None,
    file: Path | None = None,
) -> Config[T]:
    """Fill `parts`, a struct whose fields are structs, and return it with its sources.

    Keys are written `part.key` with the names the structs have in JSON. A directory or file that is None is not read;
    one that is named and cannot be read is an error, as is anything in it that does not fit.
    """
    fields = schema.fields(parts)
    said: list[dict[str, _Said]] = [  # the weakest first
        {} if file is None else _from_file(file, fields),
        {} if directory is None else _from_directory(directory, fields),
        _from_environment(env or {}, fields),
        {},
    ]
    for key, text in (flags or {}).items():
        if key not in fields:
            raise _unknown(key, "flag", fields)
        said[-1][key] = _Said(text, f"flag {key}", text=True)
    tree: dict[str, Any] = {}
    given: dict[str, list[_Said]] = {key: [place[key] for place in reversed(said) if key in place] for key in fields}
    for key, items in given.items():
        if items:
            _place(tree, key, _fit(key, items[0], fields[key].type))
    value = _build(parts, tree, "")
    return Config(value, {key: _setting(value, fields[key], items) for key, items in given.items()})


def _setting(value: msgspec.Struct, field: Field, given: list[_Said]) -> Setting:
    """Return how a value came about; what every place says is there, the default too if it lost."""
    said = [Given(each.source, each.value) for each in given]
    if not field.required:
        said.append(Given("default", field.default))
    return Setting(field.key, _value_at(value, field.key), said[0].source, tuple(said[1:]))


def _from_file(path: Path, fields: Mapping[str, Field]) -> dict[str, _Said]:
    try:
        documents = parse(path.read_bytes())
    except OSError as error:
        raise CiliumpyError(f"cannot read the configuration {path}: {error.strerror}") from None
    except DocumentError as error:
        raise CiliumpyError(f"{path}:{error.line}: {error.message}") from None
    if not documents:
        return {}
    if len(documents) > 1 or not isinstance(documents[0].value, dict):
        raise CiliumpyError(f"{path}: must be one mapping of parts")
    document = documents[0]
    given: dict[str, _Said] = {}

    def walk(value: Mapping[str, Any], path_to: tuple[str, ...]) -> None:
        for name, child in value.items():
            here = (*path_to, name)
            key = ".".join(here)
            where = f"file {path}:{document.position(here)[0]}"
            if key in fields:
                given[key] = _Said(child, where, text=False)
            elif not any(known.startswith(key + ".") for known in fields):
                raise _unknown(key, where, fields)
            elif isinstance(child, dict):
                walk(child, here)
            elif child is not None:
                raise CiliumpyError(f"{where}: {key} must be a mapping of keys")

    walk(document.value, ())
    return given


def _from_directory(directory: Path, fields: Mapping[str, Field]) -> dict[str, _Said]:
    given = {}
    try:
        for path in sorted(directory.iterdir()):
            if path.name.startswith(".") or not path.is_file():  # a mounted ConfigMap has ..data and ..<time>
                continue
            if path.name not in fields:
                raise _unknown(path.name, f"file {path}", fields)
            given[path.name] = _Said(path.read_text().strip(), f"file {path}", text=True)
    except OSError as error:
        raise CiliumpyError(f"cannot read the configuration directory {directory}: {error}") from None
    return given


def _from_environment(env: Mapping[str, str], fields: Mapping[str, Field]) -> dict[str, _Said]:
    names = {schema.environment_name(key): key for key in fields}
    parts = {name.split("_")[0] for name in names}
    given = {}
    for name, text in sorted(env.items()):
        plain = name.removeprefix(PREFIX).upper()
        if not name.startswith(PREFIX):
            continue
        if plain in names:
            given[names[plain]] = _Said(text, f"environment {name}", text=True)
        elif plain.partition("_")[0] in parts and "_" in plain:  # others are for the command line
            near = difflib.get_close_matches(plain, names, n=1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else None
            raise CiliumpyError(f"environment {name}: there is no such setting", hint)
    return given


def _fit(key: str, item: _Said, wanted: Any) -> Any:
    value = item.value
    if item.text and schema.is_list(wanted):
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.convert(value, type=wanted, strict=not item.text)
    except msgspec.ValidationError as error:
        raise CiliumpyError(f"{item.source}: {key}: {error}") from None


def _place(tree: dict[str, Any], key: str, value: Any) -> None:
    *parts, last = key.split(".")
    for part in parts:
        tree = tree.setdefault(part, {})
    tree[last] = value


def _build(schema: type[T], tree: Mapping[str, Any], prefix: str) -> T:
    """Make the struct; the values in `tree` are converted already."""
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(schema):
        given = tree.get(field.encode_name)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            if given is not None or field.required:
                values[field.name] = _build(field.type, given or {}, f"{prefix}{field.encode_name}.")
        elif field.encode_name in tree:
            values[field.name] = given
        elif field.required:
            raise CiliumpyError(f"the setting {prefix}{field.encode_name} is missing", "it has no default: set it")
    try:
        return schema(**values)
    except ValueError as error:
        raise CiliumpyError(f"{prefix.removesuffix('.') or 'configuration'}: {error}") from None


def _replaced(value: T, path: list[str], new: Any) -> T:
    """Return the struct with one value replaced, `path` deep."""
    name = next(f.name for f in msgspec.structs.fields(value) if f.encode_name == path[0])
    return msgspec.structs.replace(
        value, **{name: _replaced(getattr(value, name), path[1:], new) if len(path) > 1 else new}
    )


def _value_at(value: msgspec.Struct, key: str) -> Any:
    found: Any = value
    for part in key.split("."):
        name = next(f.name for f in msgspec.structs.fields(found) if f.encode_name == part)
        found = getattr(found, name)
    return found


def _unknown(key: str, source: str, known: Mapping[str, Any]) -> CiliumpyError:
    parts = {name.rpartition(".")[0] for name in known} - {key}
    near = difflib.get_close_matches(key, [*known, *parts], n=1, cutoff=0.5)
    if near and near[0] in parts:
        near = [", ".join(sorted(name for name in known if name.startswith(near[0] + ".")))]
    last = key.rpartition(".")[2]
    near = near or [name for name in known if name.rpartition(".")[2] == last][:1]
    return CiliumpyError(
        f"{source}: there is no setting {key}" if source else f"there is no setting {key}",
        f"did you mean {near[0]}?" if near else "the settings are: " + ", ".join(sorted(known)),
        exit_code=2,
    )
