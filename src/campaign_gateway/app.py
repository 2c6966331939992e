"""The composition root: one gateway as an ASGI application."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL

from campaign_gateway.accounts import Account, open_account
from campaign_gateway.api import examples
from campaign_gateway.api.context import Context
from campaign_gateway.api.schema import build_schema
from campaign_gateway.connectors import CONNECTORS
from campaign_gateway.duplication import Duplicator
from campaign_gateway.explorer import explorer_routes
from campaign_gateway.ledger import open_ledger
from campaign_gateway.ledger.contract import Ledger, LedgerUnavailable
from campaign_gateway.reconciliation import reconcile
from campaign_gateway.settings import Settings

log = logging.getLogger(__name__)

# Bytes of a request's body; an input of every field at its longest is far smaller.
REQUEST_LIMIT = 64 * 1024

RECONCILE_EVERY_SECONDS = 0.5

# How long a stopping gateway waits for calls under way. What is not recorded by then becomes
# UNKNOWN at the next start.
DRAIN_SECONDS = 30

# A caller is not told apart from any other yet, so all share one scope of idempotency keys.
SCOPE = "everyone"


@dataclass(frozen=True)
class Gateway:
    """What lives as long as the application does."""

    accounts: Mapping[str, Account]
    ledger: Ledger
    duplicator: Duplicator

    def context(self) -> Context:
        return Context(SCOPE, self.accounts, self.duplicator, self.ledger)


class _NoRequest(Exception):
    """The body of an HTTP request is no GraphQL request."""


class GraphQLView(GraphQL[Context, None]):
    def __init__(self, gateway: Gateway) -> None:
        super().__init__(
            build_schema(),
            graphql_ide=None,
            allow_queries_via_get=False,
            subscription_protocols=(),
        )
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except _NoRequest as mistake:
            await PlainTextResponse(f"{mistake}\n", 400)(scope, receive, send)
        except ClientDisconnect:
            # Nobody is left to answer, and somebody who hangs up is no fault to log.
            log.debug("a client hung up before its request was read")

    def parse_json(self, data: str | bytes) -> Any:
        # Besides bad syntax there are bad encodings, endless numbers and too deep a nesting.
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise _NoRequest("The body is not JSON.") from None
        if not isinstance(value, dict | list):
            raise _NoRequest("The body must be a JSON object with a query.")
        return value

    async def get_context(
        self, request: Request | WebSocket, response: Response | WebSocket
    ) -> Context:
        return self._gateway.context()


def create_app(
    settings: Settings,
    *,
    cors_origin_regex: str | None = None,
    notes: Mapping[str, Iterable[str]] | None = None,
) -> Starlette:
    """The gateway, with its ledger open. Raises `LedgerUnavailable`.

    `notes` are comments below GraphiQL's example of a provider. Needs a running event loop.
    """
    accounts = {name: open_account(name, each) for name, each in settings.accounts.items()}
    ledger = open_ledger(settings.ledger.url)
    gateway = Gateway(
        accounts, ledger, Duplicator(accounts, ledger, settings.server.deadline_seconds)
    )
    connectors = {name: CONNECTORS[each.provider] for name, each in settings.accounts.items()}

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        reader = asyncio.create_task(reconcile(accounts, ledger, RECONCILE_EVERY_SECONDS))
        yield
        reader.cancel()
        await _stop(gateway)

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        try:
            await ledger.check()
        except LedgerUnavailable as failure:
            return PlainTextResponse(f"the ledger cannot be used: {failure}\n", 503)
        return PlainTextResponse("ready\n")

    cors = Middleware(
        CORSMiddleware,
        allow_origin_regex=cors_origin_regex,
        allow_methods=["POST"],
        allow_headers=["content-type"],
    )
    return Starlette(
        routes=[
            Route("/graphql", GraphQLView(gateway)),
            *explorer_routes(lambda: examples.tabs(connectors, notes or {})),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
        ],
        middleware=[cors] if cors_origin_regex else [],
        lifespan=lifespan,
        max_body_size=REQUEST_LIMIT,
    )


async def _stop(gateway: Gateway) -> None:
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await gateway.duplicator.drain()
    except TimeoutError:
        log.error("calls were still under way after %s seconds", DRAIN_SECONDS)
    for account in gateway.accounts.values():
        await account.transport.close()
    await gateway.ledger.close()
