"""A router with our subgraph and another one, and its requests to the gateway."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from campaign_gateway.connectors.registry import CONNECTORS
from support.calling import CalledGateway, called_gateway
from support.commands import running
from support.issuer import issuing, jwt_section
from support.node import node
from support.plain import NO_CAS

SCRIPT = Path(__file__).with_name("router.mjs")
REPORTING = ("APOLLO_", "HIVE_")


@dataclass(frozen=True)
class Sandbox:
    """A sandbox that only these tests use, because they count the requests to its emulators."""

    url: str
    copies: dict[str, str]

    def asked(self) -> dict[str, int]:
        return {provider: counted["asked"] for provider, counted in self._counted().items()}

    def copies_named(self, name: str) -> int:
        made = [copy for counted in self._counted().values() for copy in counted["copies"]]
        return [copy["name"] for copy in made].count(name)

    def _counted(self) -> dict[str, Any]:
        return {
            provider: httpx.get(url, trust_env=False, verify=NO_CAS).json()
            for provider, url in self.copies.items()
        }


@dataclass(frozen=True)
class Router:
    """A client of the supergraph. `requests` has the requests of the router to our gateway.

    The responses to as many of them as `lost` has items do not arrive.
    """

    name: str
    url: str
    sandbox: Sandbox
    called: CalledGateway
    requests: list[dict[str, Any]] = field(default_factory=list)
    lost: list[None] = field(default_factory=list)

    def execute(
        self, query: str, credential: str | None = None, **variables: object
    ) -> dict[str, Any]:
        body = {"query": query, "variables": variables}
        headers = {"authorization": f"Bearer {credential}"} if credential else {}
        response = httpx.post(
            self.url, json=body, headers=headers, timeout=60, trust_env=False, verify=NO_CAS
        )
        content: dict[str, Any] = response.json()
        return content

    def ask(self, query: str, credential: str | None = None, **variables: object) -> Any:
        content = self.execute(query, credential, **variables)
        assert "errors" not in content, content["errors"]
        return content["data"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with running("sandbox", "--port", "0") as command:
        url = command.wait_for(r"GraphQL +(http://\S+)")[1]
        copies = {
            provider: command.wait_for(rf"copies at {provider} +(\S+)")[1]
            for provider in CONNECTORS
        }
        yield Sandbox(url, copies)
        # SIGINT is the signal of a terminal, so it stops without waiting for load balancers.
        assert command.stop(signal.SIGINT) == 0


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CalledGateway]:
    """A gateway with callers, which the proxy uses for each request that has a credential."""
    callers: dict[str, dict[str, object]] = {
        "web-team": {"accounts": ["sonarly"], "may": ["copy", "read"]},
        "store": {"accounts": ["braze"], "may": ["copy", "read"]},
    }
    with (
        issuing() as issuer,
        called_gateway(
            tmp_path_factory.mktemp("called"), callers, jwt=jwt_section(issuer)
        ) as running,
    ):
        yield running


@pytest.fixture(scope="module", params=["apollo", "hive"])
def router(
    request: pytest.FixtureRequest,
    sandbox: Sandbox,
    called: CalledGateway,
    serve: Callable[[ASGIApp], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Router]:
    requests: list[dict[str, Any]] = []
    lost: list[None] = []
    ours = serve(recording_proxy(sandbox.url, called.url, requests, lost)) + "/graphql"
    supergraph = tmp_path_factory.mktemp("federation") / f"{request.param}.graphql"
    with started(SCRIPT, request.param, ours, str(supergraph)) as served:
        yield Router(request.param, served["url"], sandbox, called, requests, lost)


def recording_proxy(
    sandbox_url: str, called_url: str, requests: list[dict[str, Any]], lost: list[None]
) -> Starlette:
    """Return a proxy that records the requests and passes them on unchanged.

    It loses as many responses as `lost` has items.
    """

    async def pass_on(request: Request) -> Response:
        requests.append(await request.json())
        kept = {"accept", "authorization", "content-type"}
        target = f"{called_url}/graphql" if "authorization" in request.headers else sandbox_url
        headers = {name: value for name, value in request.headers.items() if name in kept}
        async with httpx.AsyncClient(timeout=60, trust_env=False, verify=NO_CAS) as client:
            response = await client.post(target, content=await request.body(), headers=headers)
        if lost:
            lost.pop()
            return Response("the connection to the gateway is lost", 502)
        return Response(
            response.content, response.status_code, media_type=response.headers["content-type"]
        )

    return Starlette(routes=[Route("/graphql", pass_on, methods=["POST"])])


@contextmanager
def started(script: Path, *arguments: str) -> Iterator[Any]:
    """Yield what a script prints when it serves. In the end it must stop, with its processes."""
    # With the keys of a developer's account, the routers would report to that account.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(REPORTING)}
    with subprocess.Popen(
        [node(), script, *arguments],
        env=kept,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Its own process group, so that a router that does not stop can be found and killed.
        start_new_session=True,
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"{script.name} has not started"
            yield json.loads(line)
            process.stdin.close()
            assert process.wait(30) == 0
            with pytest.raises(ProcessLookupError):
                os.killpg(process.pid, 0)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
