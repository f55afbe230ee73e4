# SPDX-License-Identifier: Apache-2.0
"""The admin API: what the agent knows, as JSON over HTTP. What it changes: a few settings, and the store's objects.

    GET /v1/health                          {"status": "ok" | "degraded" | "starting"}
    GET /v1/status                          the agent's status as one object
    GET /v1/endpoints   /v1/endpoints/{id}
    PUT /v1/endpoints/{id}/config           {"PolicyAuditMode": "Enabled" | "Disabled" | "Default"}: kept over restarts
    GET /v1/identities  /v1/identities/{id}
    GET /v1/policies    /v1/policies/{namespace}/{name}     "-" is the namespace of a cluster-wide policy
    GET /v1/selectors                       who meets what, and which policies ask
    GET /v1/nodes       /v1/ipcache
    GET /v1/statedb     /v1/statedb/{table}                 tables, and the rows of one as they are
    GET /v1/statedb/{table}/watch           the rows of a table and then its changes, one JSON object a line
    GET /v1/config      /v1/config/{key}                    the configuration in force, and where it came from
    PUT /v1/config/{key}                    {"value": "debug"}: change a setting until the agent's next start
    GET /v1/monitor?type=drop,trace         events as they come, one JSON object a line
    POST /v1/objects  /v1/objects/delete    change the store; these and /v1/policies/wait: see admin_changes.py

Lists are {"items": [...]}; errors {"message", "hint"} with a status of 4xx or 5xx. Keys are camelCase and stay.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ciliumpy.api import admin_objects as objects
from ciliumpy.api import admin_policy
from ciliumpy.api import admin_statedb as statedb
from ciliumpy.api.admin_changes import ChangeHandlers, Objects
from ciliumpy.api.answers import AbsentError
from ciliumpy.api.answers import error as error_answer
from ciliumpy.kit.errors import CiliumpyError
from ciliumpy.tables.endpoints import ENDPOINTS
from ciliumpy.tables.identities import IDENTITIES
from ciliumpy.tables.ipcache import IPCACHE
from ciliumpy.tables.source import NODES, POLICIES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ciliumpy.state.database import Database
    from ciliumpy.state.table import Table

T = TypeVar("T")

AUDIT_MODES = {"Enabled": True, "Disabled": False, "Default": None}

_log = logging.getLogger(__name__)


class Settings(Protocol):
    """The configuration. Of a setting: key, value, source, default, type, unit, description, overridden and more."""

    def items(self) -> Sequence[Mapping[str, Any]]: ...

    def item(self, key: str) -> Mapping[str, Any]:
        """Return one; CiliumpyError if there is no such key."""
        ...

    def change(self, key: str, text: str) -> Mapping[str, Any]:
        """Change one until the next start and return it; CiliumpyError if that cannot be."""
        ...


class AdminContext(NamedTuple):
    """What the API answers from; the agent fills it.

    `monitor` gets the event types that are asked for (none: all) and yields one JSON object an item, without line end.
    """

    db: Database
    status: Callable[[], Mapping[str, Any]]
    config: Settings
    monitor: Callable[[frozenset[str]], AsyncIterator[bytes]]
    objects: Objects
    audit: Callable[[int, bool | None], Awaitable[Any]] | None = None
    """Put an endpoint in audit mode, or take it out; None: as the agent is."""


def application(context: AdminContext) -> Starlette:
    """Return the ASGI application."""
    handlers, changes = Handlers(context), ChangeHandlers(context.db, context.objects)
    routes = [
        Route("/v1/health", handlers.health),
        Route("/v1/status", handlers.status),
        Route("/v1/config", handlers.config),
        Route("/v1/config/{key}", handlers.setting),
        Route("/v1/config/{key}", handlers.change_setting, methods=["PUT"]),
        Route("/v1/monitor", handlers.monitor),
        Route("/v1/endpoints", handlers.endpoints),
        Route("/v1/endpoints/{id:int}", handlers.endpoint),
        Route("/v1/endpoints/{id:int}/config", handlers.configure_endpoint, methods=["PUT"]),
        Route("/v1/identities", handlers.identities),
        Route("/v1/identities/{id:int}", handlers.identity),
        Route("/v1/objects", changes.write, methods=["POST"]),
        Route("/v1/objects", changes.documents),
        Route("/v1/objects/delete", changes.delete, methods=["POST"]),
        Route("/v1/objects/{kind}/{namespace}/{name}", changes.document),
        Route("/v1/policies", handlers.policies),
        Route("/v1/policies/wait", changes.wait, methods=["POST"]),
        Route("/v1/policies/{namespace}/{name}", handlers.policy),
        Route("/v1/selectors", handlers.selectors),
        Route("/v1/nodes", handlers.nodes),
        Route("/v1/ipcache", handlers.ipcache),
        Route("/v1/statedb", handlers.tables),
        Route("/v1/statedb/{table}", handlers.table),
        Route("/v1/statedb/{table}/watch", handlers.watch),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Told)],
        exception_handlers={HTTPException: _refused, CiliumpyError: _explained, Exception: _failed},
    )


class Told:
    """Logs each request, for who looks for what asks the agent so much."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            _log.debug("%s %s", scope["method"], scope["path"])
        await self._app(scope, receive, send)


class Handlers:
    """One method a route."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._db = context.db
        self._policies = context.objects.policies

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": self._context.status()["state"]})

    async def status(self, _: Request) -> Response:
        return JSONResponse(self._context.status())

    async def config(self, _: Request) -> Response:
        return JSONResponse({"items": list(self._context.config.items())})

    async def setting(self, request: Request) -> Response:
        return JSONResponse(self._context.config.item(request.path_params["key"]))

    async def change_setting(self, request: Request) -> Response:
        try:
            value = json.loads(await request.body())["value"]
        except (ValueError, TypeError, LookupError):
            return error_answer(400, 'the body wants to be {"value": ...}', None)
        key, text = request.path_params["key"], value if isinstance(value, str) else json.dumps(value)
        changed = self._context.config.change(key, text)
        _log.warning("%s is %s from now on, until the next start", key, text)
        return JSONResponse(changed)

    async def monitor(self, request: Request) -> Response:
        types = frozenset(t for t in request.query_params.get("type", "").split(",") if t)
        events = self._context.monitor(types)

        async def body() -> AsyncIterator[bytes]:
            async for event in events:
                yield event + b"\n"

        return StreamingResponse(body(), media_type="application/x-ndjson")

    async def endpoints(self, _: Request) -> Response:
        return _items(self._db.table(ENDPOINTS).all(), lambda row: objects.endpoint(self._db, row))

    async def endpoint(self, request: Request) -> Response:
        number = request.path_params["id"]
        row = self._db.table(ENDPOINTS).get(number)
        if row is None:
            raise AbsentError(f"there is no endpoint {number}", "`ciliumpy endpoint list` shows them")
        return JSONResponse(objects.endpoint_detail(self._db, self._policies, row))

    async def configure_endpoint(self, request: Request) -> Response:
        try:
            options = dict(json.loads(await request.body()))
            mode = AUDIT_MODES[options.pop(objects.AUDIT_OPTION)]
        except (ValueError, TypeError, LookupError):
            options = {"": ""}
        if options or self._context.audit is None:
            words = ", ".join(AUDIT_MODES)
            return error_answer(400, f'the body wants to be {{"{objects.AUDIT_OPTION}": ...}}', f"one of {words}")
        number = request.path_params["id"]
        if self._db.table(ENDPOINTS).get(number) is None:
            raise AbsentError(f"there is no endpoint {number}", "`ciliumpy endpoint list` shows them")
        await self._context.audit(number, mode)
        _log.warning("endpoint %d: %s is %s from now on", number, objects.AUDIT_OPTION, mode)
        return await self.endpoint(request)

    async def identities(self, _: Request) -> Response:
        return _items(self._db.table(IDENTITIES).all(), lambda row: objects.identity(self._db, row))

    async def identity(self, request: Request) -> Response:
        number = request.path_params["id"]
        row = self._db.table(IDENTITIES).get(number)
        if row is None:
            raise AbsentError(f"there is no identity {number}", "`ciliumpy identity list` shows them")
        return JSONResponse(objects.identity_detail(self._db, row))

    async def policies(self, _: Request) -> Response:
        return _items(self._db.table(POLICIES).all(), lambda row: objects.policy(self._db, self._policies, row))

    async def policy(self, request: Request) -> Response:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        wanted = ("" if namespace == "-" else namespace, name)
        found = [row for row in self._db.table(POLICIES).all() if (row.namespace, row.name) == wanted]
        if not found:
            which = f"cluster-wide policy {name}" if namespace == "-" else f"policy {namespace}/{name}"
            raise AbsentError(f"there is no {which}", "`ciliumpy policy list` shows them")
        return JSONResponse({"items": [objects.policy_detail(self._db, self._policies, row) for row in found]})

    async def selectors(self, _: Request) -> Response:
        found = await asyncio.to_thread(admin_policy.selectors, self._db)
        return _items(found, lambda item: item)

    async def nodes(self, _: Request) -> Response:
        return _items(self._db.table(NODES).all(), objects.node)

    async def ipcache(self, _: Request) -> Response:
        return _items(self._db.table(IPCACHE).all(), lambda row: objects.ipcache_entry(self._db, row))

    async def tables(self, _: Request) -> Response:
        return JSONResponse({"items": [statedb.summary(table) for table in self._db.tables.values()]})

    async def table(self, request: Request) -> Response:
        table = self._table(request)
        return _items(table.all(), lambda row: statedb.dump(table, row))

    async def watch(self, request: Request) -> Response:
        return StreamingResponse(statedb.watch(self._table(request)), media_type="application/x-ndjson")

    def _table(self, request: Request) -> Table[Any]:
        name = request.path_params["table"]
        table = self._db.tables.get(name)
        if table is None:
            raise AbsentError(f"there is no table {name!r}", "`ciliumpy statedb tables` shows them")
        return table


def _items(rows: Sequence[T], convert: Callable[[T], Mapping[str, Any]]) -> Response:
    """Answer a list slice by slice: ten thousand rows in one go would hold up the agent for a tenth of a second."""

    async def body() -> AsyncIterator[bytes]:
        yield b'{"items":['
        comma = b""
        async for part in statedb.in_slices(rows, lambda row: _json(convert(row))):
            yield comma + ",".join(part).encode()
            comma = b","
        yield b"]}"

    return StreamingResponse(body(), media_type="application/json")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


async def _refused(request: Request, error: Exception) -> Response:
    """Answer what starlette itself refuses: no such path, a method that the path does not have."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    return error_answer(status, f"{request.method} {request.url.path}: {getattr(error, 'detail', error)}", None)


async def _explained(_: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, AbsentError) else 409
    return error_answer(status, str(error), getattr(error, "hint", None))


async def _failed(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return error_answer(500, f"{type(error).__name__}: {error}", "this is a defect; the agent's log has more")
