"""The OpenAPI document: valid, complete, and in step with the table it is made from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from broker.app import build
from broker.config import load
from broker.web.openapi import document
from broker.web.routes import Route, Surface


@pytest.fixture
async def routes(tmp_path: Path) -> AsyncIterator[list[Route]]:
    config = load({"TRIVIUM_DATA": str(tmp_path), "TRIVIUM_DATABASE_URL": "memory:"})
    async with build(config) as broker:
        yield [route for route in broker.web.table if route.surface is Surface.API]


def operations(found: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, item in found["paths"].items()
        for method, operation in item.items()
    ]


async def test_the_document_is_valid_openapi_3_1(routes: list[Route]) -> None:
    OpenAPIV31SpecValidator(document(routes)).validate()


async def test_every_route_of_the_api_is_in_it(routes: list[Route]) -> None:
    listed = {(method, path) for method, path, _ in operations(document(routes))}
    assert listed == {(route.method, route.template) for route in routes}
    assert len(listed) >= 40


async def test_operation_ids_are_unique_and_every_operation_says_what_it_does(
    routes: list[Route],
) -> None:
    found = operations(document(routes))
    ids = [operation["operationId"] for _, _, operation in found]
    assert len(set(ids)) == len(ids)
    assert all(operation["summary"] and operation["description"] for _, _, operation in found)


async def test_every_operation_describes_its_errors_as_problems(routes: list[Route]) -> None:
    for method, path, operation in operations(document(routes)):
        answers = operation["responses"]
        assert "500" in answers, (method, path)
        assert ("401" in answers) == (operation["security"] != [] or "login" in path), (
            method,
            path,
        )
        for status, answer in answers.items():
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], (path, status)


async def test_request_bodies_refuse_unknown_fields(routes: list[Route]) -> None:
    found = document(routes)
    for method, path, operation in operations(found):
        if "application/json" in operation.get("requestBody", {}).get("content", {}):
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            name = schema["$ref"].rpartition("/")[2]
            assert found["components"]["schemas"][name]["additionalProperties"] is False, (
                method,
                path,
            )


async def test_every_path_parameter_is_declared(routes: list[Route]) -> None:
    for method, path, operation in operations(document(routes)):
        declared = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        assert declared == {part.split("}")[0] for part in path.split("{")[1:]}, (method, path)
