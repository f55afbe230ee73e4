# SPDX-License-Identifier: Apache-2.0
"""The folder as a store. See interface.Store; the layout is in the package's docstring."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ciliumpy.model.documents import dump
from ciliumpy.store.directory import files
from ciliumpy.store.directory.transaction import DirectoryTransaction, check_root, locked, path_of, prepare
from ciliumpy.store.directory.watch import Watch
from ciliumpy.store.interface import Batch, Key, StoreConflictError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path


def create_store(root: Path, cluster: str = "default") -> None:
    """Make a folder a store; nothing happens to one that is a store already."""
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    marker = dump({"apiVersion": "ciliumpy/v1", "kind": "Cluster", "metadata": {"name": cluster}})
    try:
        files.write(str(root / files.MARKER), marker, replace=False)
    except FileExistsError:
        return


class DirectoryStore:
    """One folder. Any number of processes may use it at once."""

    def __init__(self, root: Path | str) -> None:
        self.root = os.path.abspath(root)

    def check(self) -> None:
        """CiliumpyError unless the folder is a store that can be read now."""
        check_root(self.root)

    def watch(self) -> AsyncIterator[Batch]:
        return Watch(self.root).batches()

    def transaction(self) -> AbstractContextManager[DirectoryTransaction]:
        return locked(self.root)

    def prepare(self, document: Mapping[str, Any]) -> tuple[Key, bytes]:
        return prepare(document)

    def is_own(self, key: Key, origin: str) -> bool:
        return origin == os.path.join(self.root, path_of(key))

    def create_if_absent(self, document: Mapping[str, Any]) -> bool:
        with self.transaction() as txn:
            try:
                txn.create(document)
            except StoreConflictError:
                return False
            return True

    def compare_and_swap(self, document: Mapping[str, Any], version: str) -> bool:
        with self.transaction() as txn:
            metadata = document["metadata"]
            present = txn.get(document["kind"], metadata["name"], metadata.get("namespace", ""))
            if present is None or present.version != version:
                return False
            txn.update(document)
            return True

    def delete(self, kind: str, name: str, namespace: str = "") -> bool:
        with self.transaction() as txn:
            return txn.delete(kind, name, namespace)
