"""The printed schemas, masked errors, health checks and CORS."""

from pathlib import Path
from typing import Any

import graphql
import httpx
import pytest

from campaign_gateway.api import queries
from campaign_gateway.api.schema import client_sdl, federation_sdl

PUBLISHED = Path(__file__).parents[2] / "schema.graphql"


def test_published_schema_is_what_the_code_prints() -> None:
    assert PUBLISHED.read_text("utf-8") == client_sdl()


def test_client_schema_is_complete_and_has_one_of() -> None:
    schema = graphql.build_schema(client_sdl())
    one_of = schema.type_map["DuplicateCampaignInput"]
    assert isinstance(one_of, graphql.GraphQLInputObjectType)
    assert one_of.is_one_of
    assert not [name for name in schema.type_map if name.startswith("_") and name[1] != "_"]


def test_every_part_of_the_schema_has_a_description() -> None:
    schema = graphql.build_schema(client_sdl())
    ours = [
        (name, type_)
        for name, type_ in schema.type_map.items()
        if not name.startswith("__") and name not in graphql.specified_scalar_types
    ]
    bare = [name for name, type_ in ours if not type_.description]
    for name, type_ in ours:
        for part, value in (getattr(type_, "fields", None) or {}).items():
            bare += [] if value.description else [f"{name}.{part}"]
            for argument, definition in getattr(value, "args", {}).items():
                bare += [] if definition.description else [f"{name}.{part}({argument})"]
        for part, value in (getattr(type_, "values", None) or {}).items():
            bare += [] if value.description else [f"{name}.{part}"]
    assert len(ours) > 15
    assert bare == []


def test_subgraph_schema_has_the_federation_version_and_keys() -> None:
    printed = federation_sdl()
    assert 'url: "https://specs.apollo.dev/federation/v2.9"' in printed
    assert 'type Duplication @key(fields: "id")' in printed
    assert 'type Campaign @key(fields: "account id")' in printed
    assert "input DuplicateCampaignInput @oneOf" in printed


@pytest.mark.asyncio(loop_scope="module")
async def test_internal_error_is_masked_and_logged(
    shared_client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("inner workings")

    monkeypatch.setattr(queries, "duplication", broken)
    content = await shared_client.execute('{ duplication(id: "x") { id } }')
    assert [error["message"] for error in content["errors"]] == ["Internal error."]
    assert "inner workings" in caplog.text


@pytest.mark.asyncio(loop_scope="module")
async def test_error_of_the_caller_is_reported_and_not_logged(
    shared_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    content = await shared_client.execute("{ nonsense }")
    assert "nonsense" in content["errors"][0]["message"]
    assert "nonsense" not in caplog.text


@pytest.mark.asyncio(loop_scope="module")
async def test_healthz_and_readyz_return_200(shared_client: Any) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await shared_client.http.get(path)).status_code == 200


@pytest.mark.asyncio(loop_scope="module")
async def test_sandbox_allows_cors_only_for_local_origins(shared_client: Any) -> None:
    async def preflight(origin: str) -> httpx.Response:
        headers = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        }
        response: httpx.Response = await shared_client.http.options("/graphql", headers=headers)
        return response

    for origin in ("http://localhost:5173", "http://127.0.0.1:3000", "http://[::1]:8080"):
        allowed = await preflight(origin)
        assert allowed.headers["access-control-allow-origin"] == origin
    for origin in ("https://example.com", "http://localhost.example.com", "null"):
        refused = await preflight(origin)
        assert "access-control-allow-origin" not in refused.headers
