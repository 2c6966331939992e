"""A sandbox that the many small cases of a module share, and a client of its gateway."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from campaign_gateway.sandbox import emulation
from campaign_gateway.sandbox.emulation import Copies
from campaign_gateway.sandbox.sandbox import Sandbox, sandbox
from support.plain import NO_CAS

JSON = "application/json"
GRAPHQL_RESPONSE = "application/graphql-response+json"

PYTHON_WORDS = re.compile(
    r"Traceback|Error\(|Exception|object at 0x|<class|NoneType|\bdict\b|\bstr\b|\bsys\."
    r"|argument '|unexpected keyword|\.py\b"
)


@dataclass(frozen=True)
class Edge:
    """A client of the gateway. `copies` has what each provider's emulator counts."""

    http: httpx.AsyncClient
    sandbox: Sandbox
    copies: Mapping[str, Copies]

    async def post(
        self, query: str, variables: object = None, operation: str | None = None
    ) -> httpx.Response:
        # ASCII JSON can contain lone surrogates, which UTF-8 cannot.
        body = json.dumps({"query": query, "variables": variables, "operationName": operation})
        headers = {"accept": GRAPHQL_RESPONSE, "content-type": JSON}
        return await self.http.post("/graphql", content=body, headers=headers)

    async def refused(
        self, query: str, variables: object = None, operation: str | None = None
    ) -> list[str]:
        """Return the messages of a request that must be refused before anything is executed."""
        response = await self.post(query, variables, operation)
        content = response.json()
        assert response.status_code == 400, content
        assert "data" not in content
        assert {error["extensions"]["code"] for error in content["errors"]} == {"INVALID_REQUEST"}
        assert not PYTHON_WORDS.search(response.text), response.text
        return [error["message"] for error in content["errors"]]

    async def data(self, query: str, variables: object = None, operation: str | None = None) -> Any:
        """Return the data of a request that must have no errors."""
        response = await self.post(query, variables, operation)
        content = response.json()
        assert response.status_code == 200, content
        assert "errors" not in content, content
        return content["data"]

    def copies_asked_for(self) -> int:
        """Return how many copies were requested from all providers together."""
        return sum(copies.requests for copies in self.copies.values())


@asynccontextmanager
async def edge(folder: Path) -> AsyncIterator[Edge]:
    created: list[Copies] = []
    create_app = emulation.create_app

    def counting(copies: Copies, *routes: Route) -> Starlette:
        created.append(copies)
        return create_app(copies, *routes)

    async with AsyncExitStack() as stack:
        # They run in this process. To ask all of them over HTTP costs more than most tests.
        with patch.object(emulation, "create_app", counting):
            starting = sandbox("127.0.0.1", 0, folder / "ledger.db")
            running = await stack.enter_async_context(starting)
        http = httpx.AsyncClient(base_url=running.url, timeout=30, trust_env=False, verify=NO_CAS)
        await stack.enter_async_context(http)
        yield Edge(http, running, dict(zip(running.emulators, created, strict=True)))
