# SPDX-License-Identifier: Apache-2.0
"""Any table as JSON, without knowing it: field names in camelCase, bytes in hexadecimal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from ciliumpy.state.table import Table


def summary(table: Table[Any]) -> dict[str, Any]:
    """Return a table's name, size and revision, and how many rows are pending, done or in error if it is reconciled."""
    return {
        "name": table.spec.name,
        "rows": len(table),
        "revision": table.revision,
        "indexes": sorted(table.spec.indexes),
        "status": table.status_counts(),
    }


def dump(table: Table[Any], row: Any) -> dict[str, Any]:
    """Return a row with its revision, and its status if the table is reconciled."""
    key = table.spec.key(row)
    item: dict[str, Any] = {"revision": table.revision_of(key)}
    if table.reconciled and key in table:
        status = table.status(key)
        item["status"] = {"state": status.state, "error": status.error}
    return item | {"row": plain(msgspec.to_builtins(row, builtin_types=(bytes,)))}


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {camel(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def camel(name: str) -> str:
    return re.sub(r"_(.)", lambda match: match[1].upper(), name)
