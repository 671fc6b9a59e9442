"""The OpenAPI 3.1 document, made from the table of routes."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from importlib import metadata
from typing import Any, Final

import msgspec
from aiohttp import web

from broker.domain import errors
from broker.domain.errors import TriviumError
from broker.web.access import Access, Need, permissions_of
from broker.web.call import Call
from broker.web.encoding import encode
from broker.web.problems import CONTENT_TYPE, Problem, status_of
from broker.web.routes import Route, RouteTable, Surface

PATH: Final = "/api/openapi.json"
_TEMPLATE: Final = "#/components/schemas/{name}"
_EVERYWHERE: Final[tuple[type[TriviumError], ...]] = (
    errors.BadRequestError,
    errors.MisdirectedError,
    errors.TriviumError,
    errors.UnavailableError,
)
_WITH_BODY: Final[tuple[type[TriviumError], ...]] = (
    errors.BodyTooLargeError,
    errors.BadMediaTypeError,
)
_DESCRIPTION: Final = (
    "A virtual-desktop broker for VDI, IDV and VOI. Times are RFC 3339 in UTC with "
    "milliseconds. Lists come in pages: `next` of one goes into `after` for the one that "
    "follows. Unknown parameters and fields are refused. Errors are problem+json with a "
    "stable `code`."
)


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document for the routes of the API."""
    listed = [route for route in routes if route.surface is Surface.API]
    kinds = [Problem]
    for route in listed:
        kinds += [kind for kind in (route.request, *route.answers.values()) if kind is not None]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_TEMPLATE)
    schema_of = dict(zip(map(str, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in listed:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Trivium",
            "version": _version(),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "console": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "trivium",
                    "description": "The console's cookie (`__Host-trivium` over https). Calls "
                    "that change something then need the header `X-Trivium`.",
                },
            },
        },
    }


def _version() -> str:
    try:
        return metadata.version("trivium")
    except metadata.PackageNotFoundError:
        # run from a checkout that was not installed
        return "0"


def _operation(route: Route, schema_of: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "description": _needs(route.need),
        "tags": [route.template.split("/")[3] if route.template.count("/") > 2 else "api"],  # noqa: PLR2004
        "responses": _responses(route, schema_of),
        "security": [] if route.need is Access.PUBLIC else [{"bearer": []}, {"console": []}],
    }
    parameters = _parameters(route)
    if parameters:
        made["parameters"] = parameters
    if route.request is not None:
        made["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of[str(route.request)]}},
        }
    elif route.upload:
        made["requestBody"] = {
            "required": True,
            "content": {route.upload: {"schema": {"type": "string", "format": "binary"}}},
        }
    return made


def _operation_id(route: Route) -> str:
    words = [word.strip("{}") for word in route.template.removeprefix("/api/").split("/") if word]
    return "_".join((route.method.lower(), *words)).replace(".", "_")


def _needs(need: Need) -> str:
    if need is Access.PUBLIC:
        return "Needs no sign-in."
    permissions = sorted(permissions_of(need))
    if not permissions:
        return "Needs a sign-in."
    return f"Needs the permission {' and '.join(permissions)}."


def _parameters(route: Route) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in route.params
    ]
    in_query = [
        {
            "name": param.name,
            "in": "query",
            "required": False,
            "description": param.says,
            "schema": dict(param.schema),
        }
        for param in route.query
    ]
    in_header = [
        {
            "name": param.name,
            "in": "header",
            "required": False,
            "description": param.says,
            "schema": {"type": "string"},
        }
        for param in route.headers
    ]
    return [*in_path, *in_query, *in_header]


def _responses(route: Route, schema_of: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, kind in route.answers.items():
        made: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if kind is not None:
            made["content"] = {"application/json": {"schema": schema_of[str(kind)]}}
        found[str(status)] = made
    by_status: dict[int, list[str]] = {}
    for error in _errors(route):
        codes = by_status.setdefault(status_of(error()), [])
        if error.code not in codes:
            codes.append(error.code)
    for status, codes in sorted(by_status.items()):
        found[str(status)] = {
            "description": ", ".join(codes),
            "content": {CONTENT_TYPE: {"schema": schema_of[str(Problem)]}},
        }
    return found


def _errors(route: Route) -> tuple[type[TriviumError], ...]:
    found = [*_EVERYWHERE, *route.errors]
    if route.need is not Access.PUBLIC:
        found += [errors.NotSignedInError]
    if permissions_of(route.need):
        found += [errors.ForbiddenError]
    if route.request is not None:
        found += _WITH_BODY
    if route.method != "GET":
        found += [errors.BadOriginError]
    return tuple(found)


def openapi_route(table: RouteTable) -> Route:
    """The document's own route; it is made when it is first asked for, from the whole table."""
    made: list[bytes] = []

    async def serve(call: Call) -> web.StreamResponse:
        if not made:
            made.append(encode(document(table)))
        headers = call.headers()
        headers["Content-Type"] = "application/json"
        return web.Response(body=made[0], headers=headers)

    return Route(
        method="GET",
        path=PATH,
        handler=serve,
        need=Access.PUBLIC,
        summary="This document",
        answers={200: None},
    )
