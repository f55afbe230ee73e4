# SPDX-License-Identifier: Apache-2.0
"""The admin API's changes of the store, and the answer to when they are in force.

    POST /v1/objects          {"items": [object, ...]}: put them into the store, all or none
    POST /v1/objects/delete   {"items": [{"kind", "namespace", "name"}, ...]}: take them out, all or none
    GET  /v1/objects          the policies in force as they were written, sorted by kind, namespace and name
    GET  /v1/objects/{kind}/{namespace}/{name}   the object in force as it was written; "-" is no namespace
    POST /v1/policies/wait    {"items": [...], "all", "revision", "timeoutSeconds"}: wait until they are in force

Objects that are refused are status 422 with "faults": [{"index", "path", "message"}], by the place of the object.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec
from starlette.responses import JSONResponse, Response

from ciliumpy.api.answers import AbsentError, error
from ciliumpy.api.awaited import Awaited, Wanted
from ciliumpy.store.changes import Changed, RefusedError
from ciliumpy.store.interface import Key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request

    from ciliumpy.api.awaited import PolicyView
    from ciliumpy.state.database import Database

T = TypeVar("T")

MOST_BYTES = 128 << 20
LONGEST_S = 3600.0
POLL_S = 0.02


class Changing(Protocol):
    """What changes the store for users."""

    async def write(self, documents: Sequence[Any]) -> Sequence[Changed]: ...

    async def delete(self, keys: Sequence[Key]) -> Sequence[Changed]: ...


class Objects(NamedTuple):
    """The store as users may change it, its objects as they were written, and policy as it is carried out."""

    changes: Changing
    document_of: Callable[[Key], Awaitable[Mapping[str, Any] | None]]
    documents: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]
    policies: PolicyView


class _Items(msgspec.Struct):
    items: list[Any]


class _Named(msgspec.Struct, frozen=True):
    kind: str
    name: str
    namespace: str = ""


class _Keys(msgspec.Struct):
    items: list[_Named]


class _Wait(msgspec.Struct, rename="camel"):
    items: list[Wanted] = []
    all: bool = False
    revision: int = 0
    timeout_seconds: float = 0.0


class ChangeHandlers:
    """One method a route."""

    def __init__(self, db: Database, objects: Objects) -> None:
        self._db = db
        self._objects = objects

    async def write(self, request: Request) -> Response:
        asked = await _body(request, _Items)
        return asked if isinstance(asked, Response) else await _answer(self._objects.changes.write(asked.items))

    async def delete(self, request: Request) -> Response:
        asked = await _body(request, _Keys)
        if isinstance(asked, Response):
            return asked
        keys = [Key(each.kind, each.namespace, each.name) for each in asked.items]
        return await _answer(self._objects.changes.delete(keys))

    async def documents(self, _: Request) -> Response:
        items = [dict(found) for found in await self._objects.documents()]
        return Response(await asyncio.to_thread(msgspec.json.encode, {"items": items}), media_type="application/json")

    async def document(self, request: Request) -> Response:
        kind, namespace, name = (request.path_params[part] for part in ("kind", "namespace", "name"))
        key = Key(kind, "" if namespace == "-" else namespace, name)
        found = await self._objects.document_of(key)
        if found is None:
            raise AbsentError(f"there is no {key}", "`ciliumpy policy list` shows the policies")
        return JSONResponse(found)

    async def wait(self, request: Request) -> Response:
        asked = await _body(request, _Wait)
        if isinstance(asked, Response):
            return asked
        awaited = Awaited(self._db, self._objects.policies, asked.items, everything=asked.all, revision=asked.revision)
        began = time.monotonic()
        until = began + min(asked.timeout_seconds, LONGEST_S)
        while True:
            late = awaited.late()
            now = time.monotonic()
            if not late or now >= until or (awaited.hopeless and now - began > 1.0):
                break
            await asyncio.sleep(POLL_S)
        counts = self._objects.policies.counts
        return JSONResponse(
            {
                "late": [each._asdict() for each in late],
                "revision": counts.revision,
                "realised": counts.realised,
                "digest": awaited.digest(),
            }
        )


async def _body(request: Request, shape: type[T]) -> T | Response:
    """The body as what it must be, or the refusal."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MOST_BYTES:
            return error(413, f"the body is larger than {MOST_BYTES >> 20} MiB", "send it in parts")
    try:
        return await asyncio.to_thread(msgspec.json.decode, bytes(data), type=shape)
    except msgspec.DecodeError as fault:
        return error(400, f"the body is not what {request.url.path} wants: {fault}", None)


async def _answer(work: Awaitable[Sequence[Changed]]) -> Response:
    try:
        changed = await work
    except RefusedError as refused:
        faults = [{"index": f.number, "path": list(f.path), "message": f.message} for f in refused.faults]
        body = {"message": refused.message, "hint": refused.hint or "", "faults": faults}
        return JSONResponse(body, status_code=422)
    items = [
        {
            "kind": each.key.kind,
            "namespace": each.key.namespace,
            "name": each.key.name,
            "change": each.change,
            "version": each.version,
            "notices": [{"path": list(path), "message": message} for path, message in each.notices],
        }
        for each in changed
    ]
    return JSONResponse({"items": items})
