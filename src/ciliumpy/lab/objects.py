# SPDX-License-Identifier: Apache-2.0
"""`lab apply` and `lab delete`: manifests into the store, checked whole before anything is written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.lab import manifests
from ciliumpy.model.documents import MOST_BYTES, Document, DocumentError, parse
from ciliumpy.model.errors import FieldError, path_text
from ciliumpy.model.options import PolicyOptions
from ciliumpy.model.policy_kinds import SHORT
from ciliumpy.store.decode import decode
from ciliumpy.store.directory.store import DirectoryStore
from ciliumpy.store.kinds import KINDS, POLICY_KINDS, key_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ciliumpy.lab.place import Place
    from ciliumpy.store.interface import Key

# What agents share with each other is theirs alone.
_USERS = ("Namespace", "Pod", "Deployment", *POLICY_KINDS, "CiliumCIDRGroup", "Service", "EndpointSlice")
_SHORT = {"po": "Pod", "deploy": "Deployment", "ns": "Namespace", "svc": "Service"}
_SHORT |= {word: kind for kind, word in SHORT.items()}
_DEFAULTS = PolicyOptions()
_SUFFIXES = (".yaml", ".yml", ".json")


class Manifest(NamedTuple):
    """An object to apply. `notices` say what of it has no effect."""

    key: Key
    document: dict[str, Any]
    where: str  # file:line
    notices: tuple[str, ...] = ()


def read(source: str, options: PolicyOptions = _DEFAULTS) -> list[Manifest]:
    """Return the objects of a file, a folder, or standard input (`-`). CiliumpyError names every fault at once.

    `options` are the agents'.
    """
    found: list[Manifest] = []
    faults: list[str] = []
    seen: dict[Key, str] = {}
    for name, data in _texts(source):
        try:
            documents = parse(data)
        except DocumentError as error:
            faults.append(f"{name}:{error.line}: {error.message}")
            continue
        for document in _flat(documents):
            try:
                manifest = _checked(name, document, options)
            except FieldError as error:  # a kind or field that is not taken
                line = document.position(error.path)[0]
                faults.append(f"{name}:{line}: {path_text(error.path)}: {error.message}")
                continue
            if manifest.key in seen:
                faults.append(f"{manifest.where}: {manifest.key} is in {seen[manifest.key]} already")
            seen.setdefault(manifest.key, manifest.where)
            found.append(manifest)
    if faults:
        raise CiliumpyError("refused, nothing was changed:\n  " + "\n  ".join(faults), "correct the manifests", 2)
    if not found:
        raise CiliumpyError(f"there are no objects in {source}", exit_code=2)
    return found


def _texts(source: str) -> Iterator[tuple[str, bytes]]:
    if source == "-":
        yield "standard input", sys.stdin.buffer.read(MOST_BYTES + 1)
        return
    path = Path(source)
    try:
        if path.is_dir():
            for each in sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES):
                yield str(each), _some(each)
        else:
            yield source, _some(path)
    except OSError as error:
        raise CiliumpyError(f"cannot read {error.filename}: {error.strerror}", exit_code=2) from error


def _some(path: Path) -> bytes:
    """As much as a document may have, and a byte more: a device has no end."""
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


def _flat(documents: Sequence[Document]) -> Iterator[Document]:
    for document in documents:
        if isinstance(document.value, dict) and document.value.get("kind") == "List":
            raise CiliumpyError("a List cannot be applied", "write its items as documents separated by ---", 2)
        yield document


def _checked(name: str, document: Document, options: PolicyOptions) -> Manifest:
    key = key_of(document.value)
    if key.kind not in _USERS:
        raise FieldError(("kind",), f"a lab takes {', '.join(_USERS)}, not {key.kind}")
    KINDS[key.kind].check_version(document.value["apiVersion"])
    decoded = decode(key, document.value, origin=name, options=options)
    notices = [f"{path_text(path)}: {text}" for path, text in decoded.notices] if decoded else []
    manifests.check(document.value)
    if unused := manifests.unused(document.value):
        notices.append(f"without effect in a lab: {', '.join(unused)}")
    return Manifest(key, document.value, f"{name}:{document.line}", tuple(notices))


def apply(place: Place, found: Sequence[Manifest]) -> list[tuple[Manifest, str]]:
    """Write the objects in one transaction; return each with `created`, `configured` or `unchanged`."""
    done: list[tuple[Manifest, str]] = []
    with DirectoryStore(place.store).transaction() as store:
        for manifest in found:
            key = manifest.key
            document = manifest.document
            if key.namespace:
                document = {**document, "metadata": {**document["metadata"], "namespace": key.namespace}}
            present = store.get(key.kind, key.name, key.namespace)
            if present is not None and present.document == document:
                done.append((manifest, "unchanged"))
                continue
            store.put(document)
            done.append((manifest, "created" if present is None else "configured"))
    return done


def delete(place: Place, keys: Sequence[Key]) -> list[tuple[Key, bool]]:
    """Delete the objects; return each with whether it was there. A Namespace goes with all that is in it."""
    done: list[tuple[Key, bool]] = []
    with DirectoryStore(place.store).transaction() as store:
        for key in keys:
            done.append((key, store.delete(key.kind, key.name, key.namespace)))
            if key.kind == "Namespace":
                for kind in _USERS:
                    for namespace, name in sorted(store.names(kind)):
                        if namespace == key.name and store.delete(kind, name, namespace):
                            done.append((type(key)(kind, namespace, name), True))
    return done


def kind_of(word: str) -> str:
    """Return the kind that a user means by `pod`, `pods`, `cnp`, `deploy` and so on."""
    for kind in _USERS:
        if word.lower() in {kind.lower(), KINDS[kind].plural}:
            return kind
    if word.lower() in _SHORT:
        return _SHORT[word.lower()]
    raise CiliumpyError(f"a lab has no objects of kind {word!r}", f"kinds: {', '.join(_USERS)}", 2)


def key_from(kind: str, name: str, namespace: str) -> Key:
    """Return the key of `[NAMESPACE/]NAME`."""
    given, slash, short = name.rpartition("/")
    known = KINDS[kind]
    metadata = {"name": short, **({"namespace": given if slash else namespace} if known.namespaced else {})}
    try:
        return key_of({"apiVersion": known.api_version, "kind": kind, "metadata": metadata})
    except FieldError as error:
        raise CiliumpyError(f"{name!r}: {error.message}", exit_code=2) from error
