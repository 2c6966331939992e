"""The composition root: one gateway as an ASGI application."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from campaign_gateway.accounts import Account, open_account, unclear_addresses
from campaign_gateway.api import examples
from campaign_gateway.api.context import Context
from campaign_gateway.api.list_lengths import LIST_LENGTHS
from campaign_gateway.api.schema import build_schema
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.duplication.reconciliation import reconcile
from campaign_gateway.duplication.retention import retain
from campaign_gateway.duplication.service import Duplicator
from campaign_gateway.explorer import explorer_routes
from campaign_gateway.graphql_http.endpoint import GraphQLOverHTTP
from campaign_gateway.ledger import Ledger, open_ledger
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.model import DEFAULT_TIMING, Timing
from campaign_gateway.settings import Settings

log = logging.getLogger(__name__)

# How long a background task may take to end, in seconds.
CHORE_SECONDS = 2.0

# How much longer than the slowest call a stopping gateway waits for calls under way, in seconds.
# What is not recorded by then becomes UNKNOWN.
DRAIN_SLACK = 20

# A caller is not told apart from any other yet, so all share one scope of idempotency keys.
SCOPE = "everyone"


@dataclass(frozen=True)
class Gateway:
    """What lives as long as the application does."""

    accounts: Mapping[str, Account]
    ledger: Ledger
    duplicator: Duplicator
    background_tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def drain(self) -> None:
        """Refuse new intents as data, and finish and record those under way, once."""
        if self.duplicator.is_draining:
            return
        for task in self.background_tasks:
            task.cancel()
        patience = max(each.timeout_seconds for each in self.accounts.values()) + DRAIN_SLACK
        try:
            async with asyncio.timeout(patience):
                await self.duplicator.drain()
        except TimeoutError:
            log.error("calls were still under way after %s seconds", patience)
            self.give_up()

    def give_up(self) -> None:
        """Tell callers at once what can be told; what is not recorded becomes UNKNOWN."""
        self.duplicator.give_up()

    async def close(self) -> None:
        if self.background_tasks:
            await asyncio.wait(self.background_tasks, timeout=CHORE_SECONDS)
        for account in self.accounts.values():
            await account.transport.close()
        await self.ledger.close()

    def context(self) -> Context:
        return Context(SCOPE, self.accounts, self.duplicator, self.ledger)


async def create_app(
    settings: Settings,
    *,
    cors_origin_regex: str | None = None,
    notes: Mapping[str, Iterable[str]] | None = None,
    timing: Timing = DEFAULT_TIMING,
) -> Starlette:
    """The gateway, with its ledger open. Raises `LedgerUnavailable`.

    `notes` are comments below GraphiQL's example of a provider. Whoever serves it drains
    `state.gateway` when asked to stop, and goes on serving until that is done.
    """
    ledger = await open_ledger(settings.ledger.url.get_secret_value(), timing=timing)
    try:
        for warning in await ledger.check():
            log.warning("%s", warning)
    except LedgerUnavailable as failure:
        # What it holds can be replayed and finished all the same.
        log.error("the ledger takes no new intents: %s", failure)
    try:
        accounts = await _open_accounts(settings, ledger, timing)
    except LedgerUnavailable:
        await ledger.close()
        raise
    gateway = Gateway(
        accounts, ledger, Duplicator(accounts, ledger, settings.server.deadline_seconds)
    )
    connectors = {name: CONNECTORS[each.provider] for name, each in settings.accounts.items()}
    keep = timedelta(days=settings.ledger.keep_days)
    remember = timedelta(days=settings.ledger.remember_days)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        background_tasks = [
            _supervise(lambda: reconcile(accounts, ledger, timing), timing.restart_pause),
            _supervise(lambda: retain(ledger, keep, remember, timing), timing.restart_pause),
        ]
        gateway.background_tasks.extend(asyncio.create_task(each) for each in background_tasks)
        yield
        await gateway.drain()
        await gateway.close()

    async def root(_request: Request) -> Response:
        # A path alone, because a request may name any host.
        return RedirectResponse("/graphiql")

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        if gateway.duplicator.is_draining:
            return PlainTextResponse("stopping\n", 503)
        try:
            warnings = await ledger.check()
        except LedgerUnavailable as failure:
            return PlainTextResponse(f"the ledger cannot be used: {failure}\n", 503)
        return PlainTextResponse("".join(["ready\n", *(f"but {each}\n" for each in warnings)]))

    graphql = GraphQLOverHTTP(
        build_schema(),
        LIST_LENGTHS,
        gateway.context,
        introspection_disabled=not settings.server.introspection,
    )
    cors = Middleware(
        CORSMiddleware,
        allow_origin_regex=cors_origin_regex,
        allow_methods=["POST"],
        allow_headers=["content-type"],
    )
    app = Starlette(
        routes=[
            Route("/", root),
            Route("/graphql", graphql),
            *explorer_routes(lambda: examples.tabs(connectors, notes or {})),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
        ],
        middleware=[cors] if cors_origin_regex else [],
        lifespan=lifespan,
    )
    # A redirect would be to whatever host a request names.
    app.router.redirect_slashes = False
    app.state.gateway = gateway
    return app


async def _open_accounts(
    settings: Settings, ledger: Ledger, timing: Timing
) -> Mapping[str, Account]:
    accounts = {name: open_account(name, each, timing) for name, each in settings.accounts.items()}
    for warning in unclear_addresses(accounts.values()):
        log.warning("%s", warning)
    for account in accounts.values():
        # What is on record from before a change of the configuration is read for here too.
        await ledger.move(account.name, account.place)
    return accounts


async def _supervise(task: Callable[[], Coroutine[Any, Any, None]], restart_pause: float) -> None:
    """Start it again whenever a fault of the gateway's own has ended it."""
    while True:
        try:
            await task()
        except Exception:
            log.exception("a chore of the gateway has failed and starts again")
            await asyncio.sleep(restart_pause)
