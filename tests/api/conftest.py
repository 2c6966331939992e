"""A whole gateway over real HTTP, with emulators on real sockets."""

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from campaign_gateway.sandbox.emulation import Copies
from campaign_gateway.sandbox.sandbox import Sandbox
from support.edge import Edge, edge

FIELDS = """
  status replayed
  campaign { account id provider name status }
  duplication { id provider account sourceCampaignId requestedName status evidence providerTraceId
    requestedAt settledAt campaign { id } error { code } }
  userErrors { code message field retry retryAfterSeconds providerCode providerMessage }
"""


@dataclass
class Client:
    """A client of the gateway, which also has the emulators' counts since its test has begun."""

    http: httpx.AsyncClient
    sandbox: Sandbox
    copies: Mapping[str, Copies]
    before: Mapping[str, tuple[int, int]]

    async def execute(self, query: str, **variables: object) -> dict[str, Any]:
        # ASCII JSON can contain lone surrogates, which UTF-8 cannot.
        body = json.dumps({"query": query, "variables": variables})
        response = await self.http.post(
            "/graphql", content=body, headers={"content-type": "application/json"}
        )
        assert response.status_code == 200, response.text
        content: dict[str, Any] = response.json()
        return content

    async def ask(self, query: str, **variables: object) -> Any:
        content = await self.execute(query, **variables)
        assert "errors" not in content, content["errors"]
        return content["data"]

    async def duplicate(self, fields: str, key: str | None = None) -> dict[str, Any]:
        """Return the payload for an input in GraphQL, such as `braze: {...}`."""
        query = (
            f"mutation Copy($key: String!) {{ duplicateCampaign(input: {{ {fields} }}, "
            f"idempotencyKey: $key) {{ {FIELDS} }} }}"
        )
        key = str(uuid.uuid4()) if key is None else key
        payload: dict[str, Any] = (await self.ask(query, key=key))["duplicateCampaign"]
        return payload

    def counted(self, provider: str) -> dict[str, Any]:
        copies, (asked, made) = self.copies[provider], self.before[provider]
        new = copies.records[made:]
        return {"asked": copies.requests - asked, "count": len(new), "copies": new}


def client_of(gateway: Edge) -> Client:
    before = {
        provider: (copies.requests, len(copies.records))
        for provider, copies in gateway.copies.items()
    }
    return Client(gateway.http, gateway.sandbox, gateway.copies, before)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """One gateway for a module. Its tests use the module's event loop, which lives as long."""
    async with edge(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def shared_client(gateway: Edge) -> Client:
    """A client of the gateway of the module, for tests that find nothing of others."""
    return client_of(gateway)


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest_asyncio.fixture(loop_scope="module")
async def client(ledger_path: Path) -> AsyncIterator[Client]:
    """A client of a gateway that only its test uses."""
    async with edge(ledger_path.parent) as running:
        yield client_of(running)
