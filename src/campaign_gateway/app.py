"""The composition root: builds one gateway as an ASGI application."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from campaign_gateway.accounts.account import (
    Account,
    follow_pauses,
    open_account,
    unclear_addresses,
)
from campaign_gateway.accounts.checks.account_check import AccountCheck
from campaign_gateway.accounts.checks.watch import AccountChecks
from campaign_gateway.accounts.transport.document_fetch import fetch_document
from campaign_gateway.accounts.transport.errors import NoResponse
from campaign_gateway.accounts.transport.worker import run_in_worker
from campaign_gateway.api import examples
from campaign_gateway.api.context import Context
from campaign_gateway.api.list_lengths import LIST_LENGTHS
from campaign_gateway.api.schema import build_schema
from campaign_gateway.connectors.registry import connectors_for, packages_of
from campaign_gateway.duplication.reconciliation import reconcile
from campaign_gateway.duplication.retention import retain
from campaign_gateway.duplication.service import Duplicator
from campaign_gateway.ledger import Ledger, open_ledger
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.ledger.monitor import monitor
from campaign_gateway.model import DEFAULT_TIMING, Timing
from campaign_gateway.observe.correlation import Correlation
from campaign_gateway.observe.metrics import measure_loop_lag, show_accounts
from campaign_gateway.observe.registry import REGISTRY
from campaign_gateway.observe.state import show_limits
from campaign_gateway.settings import Settings
from campaign_gateway.web.callers.authentication import Authentication, Callers, caller_of
from campaign_gateway.web.callers.caller import Caller, Right, scope_of
from campaign_gateway.web.explorer import explorer_routes, page_paths
from campaign_gateway.web.graphql_http.endpoint import Client, GraphQLOverHTTP
from campaign_gateway.web.server.entrance import UNREADY

log = logging.getLogger(__name__)

# How long a background task may take to end, in seconds.
BACKGROUND_TASK_SECONDS = 2.0

# By how many seconds a stopping gateway waits longer than the slowest timeout for running calls. A
# call that is not recorded by then becomes UNKNOWN.
DRAIN_SLACK = 20


@dataclass(frozen=True)
class Gateway:
    """The objects that live as long as the application."""

    accounts: Mapping[str, Account]
    ledger: Ledger
    duplicator: Duplicator
    checks: AccountChecks
    deadline: float
    background_tasks: list[asyncio.Task[None]] = field(default_factory=list)
    # Made once for each caller.
    _usable: dict[frozenset[str], Mapping[str, Account]] = field(default_factory=dict)

    async def drain(self) -> None:
        """Refuse new intents with a user error, and finish and record the running ones."""
        if self.duplicator.is_draining:
            return
        for task in self.background_tasks:
            task.cancel()
        slowest = max(account.timeout_seconds for account in self.accounts.values())
        timeout = slowest + DRAIN_SLACK
        try:
            async with asyncio.timeout(timeout):
                await self.duplicator.drain()
        except TimeoutError:
            log.error("calls were still running after %s seconds", timeout)
            self.give_up()

    def give_up(self) -> None:
        """Respond to waiting callers immediately. Calls that are not recorded become UNKNOWN."""
        self.duplicator.give_up()

    async def close(self) -> None:
        if self.background_tasks:
            await asyncio.wait(self.background_tasks, timeout=BACKGROUND_TASK_SECONDS)
        await asyncio.gather(*(account.close() for account in self.accounts.values()))
        await self.ledger.close()

    def context(self, caller: Caller) -> Context:
        reads_end_at = asyncio.get_running_loop().time() + self.deadline
        accounts = self.accounts_of(caller)
        return Context(caller, accounts, self.duplicator, self.ledger, reads_end_at)

    def accounts_of(self, caller: Caller) -> Mapping[str, Account]:
        """Return the accounts that the caller may use, in the order of the configuration."""
        usable = self._usable.get(caller.accounts)
        if usable is None:
            usable = {name: each for name, each in self.accounts.items() if caller.may_use(name)}
            self._usable[caller.accounts] = usable
        return usable


@dataclass(frozen=True)
class SandboxPages:
    """What a gateway shows that is a sandbox. `home` returns the page at /.

    `outcomes` has, for each provider, what happens with which id of a source.
    """

    outcomes: Mapping[str, Mapping[str, str]]
    home: Callable[[Gateway], Awaitable[Response]]


async def create_app(
    settings: Settings,
    *,
    cors_origin_regex: str | None = None,
    sandbox: SandboxPages | None = None,
    timing: Timing = DEFAULT_TIMING,
    checks: Iterable[AccountCheck] = (),
) -> Starlette:
    """Return the gateway, with its ledger open. Raises `LedgerUnavailable`.

    `checks` are those of the accounts that were made just before. To stop, the server must drain
    `state.gateway` and serve until that is done.
    """
    # First, because the ledger reports the attempts that it takes over.
    show_accounts({name: account.provider for name, account in settings.accounts.items()})
    packages = packages_of({account.provider for account in settings.accounts.values()})
    url = settings.ledger.url.get_secret_value()
    ledger = await open_ledger(url, timing=timing, packages=packages.values())
    try:
        for warning in await ledger.check():
            log.warning("%s", warning)
    except LedgerUnavailable as failure:
        # The gateway still starts: recorded duplications can be replayed and finished.
        log.error("the ledger takes no new intents: %s", failure)
    try:
        accounts = await _open_accounts(settings, ledger, timing)
    except LedgerUnavailable:
        await ledger.close()
        raise
    quotas = {scope_of(name): caller.quota for name, caller in settings.callers.items()}
    deadline = settings.server.deadline_seconds
    duplicator = Duplicator(ledger, deadline, quotas)
    account_checks = AccountChecks(accounts, timing, checks)
    gateway = Gateway(accounts, ledger, duplicator, account_checks, deadline)
    for name, account in accounts.items():
        show_limits(name, account.rate_limiter)
    watch_tasks = (
        []
        if settings.metrics.port is None
        else [lambda: monitor(ledger, timing.ledger_watch_interval), measure_loop_lag]
    )
    keep = timedelta(days=settings.ledger.keep_days)
    remember = timedelta(days=settings.ledger.remember_days)

    # The ledger's clock, because this machine's may be wrong: what has ended for one gateway must
    # have ended for all of them.
    callers = Callers(
        settings.callers, settings.jwt, _fetch_key_set, lambda: ledger.now().timestamp()
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        background_tasks = [
            _supervise(lambda: reconcile(accounts, ledger, timing), timing.restart_pause),
            _supervise(lambda: retain(ledger, keep, remember, timing), timing.restart_pause),
            _supervise(duplicator.quotas.measure_for_ever, timing.restart_pause),
            _supervise(account_checks.check_for_ever, timing.restart_pause),
            *(_supervise(task, timing.restart_pause) for task in watch_tasks),
        ]
        if limits := ledger.call_limits:
            follow = partial(follow_pauses, accounts, limits)
            background_tasks.append(_supervise(follow, timing.restart_pause))
        gateway.background_tasks.extend(asyncio.create_task(task) for task in background_tasks)
        callers.start()
        yield
        await gateway.drain()
        await callers.close()
        await gateway.close()

    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.server.cors_origins,
        allow_origin_regex=cors_origin_regex,
        allow_methods=["POST"],
        allow_headers=["authorization", "content-type"],
        expose_headers=["retry-after"],
    )
    has_cors = bool(cors_origin_regex or settings.server.cors_origins)
    public_paths = {"/healthz", *(page_paths() if settings.server.has_graphiql else ())}
    authentication = Middleware(Authentication, callers=callers, public_paths=public_paths)
    app = Starlette(
        routes=_routes(gateway, settings, packages, sandbox),
        middleware=[Middleware(Correlation), *([cors] if has_cors else []), authentication],
        lifespan=lifespan,
    )
    # A redirect would use the host that the request names, which may be a malicious one.
    app.router.redirect_slashes = False
    app.state.gateway = gateway
    return app


def metrics_app() -> Starlette:
    """Return an application of its own for /metrics."""

    async def metrics(_request: Request) -> Response:
        # It takes 10 ms for each thousand lines.
        text = await run_in_worker(generate_latest, REGISTRY)
        return Response(text, headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})

    return Starlette(routes=[Route("/metrics", metrics)])


def _routes(
    gateway: Gateway,
    settings: Settings,
    packages: Mapping[str, str],
    sandbox: SandboxPages | None,
) -> list[BaseRoute]:
    providers = {account.provider for account in settings.accounts.values()}

    async def root(_request: Request) -> Response:
        if sandbox is not None:
            return await sandbox.home(gateway)
        # A path alone, because a request may name any host.
        return RedirectResponse("/graphiql")

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        if reason := getattr(request.state, UNREADY, None):
            return PlainTextResponse(f"{reason}\n", 503)
        status = 200
        try:
            lines = ["ready", *(f"warning: {text}" for text in await gateway.ledger.check())]
        except LedgerUnavailable as failure:
            status, lines = 503, [f"the ledger cannot be used: {failure}"]
        # Gateways behind one balancer should have the same.
        lines += [f"connector: {name} of {package}" for name, package in packages.items()]
        # A provider that fails is no reason to take this gateway out of service.
        if "accounts" in request.query_params:
            lines += gateway.checks.lines(gateway.accounts_of(caller_of(request)))
        return PlainTextResponse("\n".join(lines) + "\n", status)

    def client(request: Request) -> Client:
        caller = caller_of(request)
        may_introspect = settings.server.introspection and Right.INTROSPECT in caller.rights
        return Client(caller.scope, may_introspect)

    def graphiql_examples(request: Request) -> dict[str, object]:
        usable = gateway.accounts_of(caller_of(request))
        connectors = {name: type(usable[name].connector) for name in usable}
        tabs = examples.tabs(connectors, sandbox.outcomes if sandbox else {})
        return {"tabs": tabs, "isSandbox": sandbox is not None}

    graphql = GraphQLOverHTTP(
        build_schema(connectors_for(providers)),
        LIST_LENGTHS,
        lambda request: gateway.context(caller_of(request)),
        client,
    )
    page = (
        [Route("/", root), *explorer_routes(graphiql_examples)]
        if settings.server.has_graphiql
        else []
    )
    return [
        Route("/graphql", graphql),
        *page,
        Route("/healthz", healthz),
        Route("/readyz", readyz),
    ]


async def _open_accounts(
    settings: Settings, ledger: Ledger, timing: Timing
) -> Mapping[str, Account]:
    accounts = {
        name: open_account(name, table, timing, ledger.call_limits)
        for name, table in settings.accounts.items()
    }
    for warning in unclear_addresses(accounts.values()):
        log.warning("%s", warning)
    for account in accounts.values():
        # Duplications from before a change of the configuration are checked at the new address.
        await ledger.move(account.name, account.place)
    return accounts


async def _fetch_key_set(url: str) -> bytes:
    """Raises `KeySetUnavailable`."""
    from campaign_gateway.web.callers import key_set  # noqa: PLC0415 - only tokens need joserfc

    try:
        return await fetch_document(url, limit=key_set.SIZE_LIMIT, seconds=key_set.LOAD_SECONDS)
    except NoResponse as failure:
        raise key_set.KeySetUnavailable(str(failure)) from failure


async def _supervise(task: Callable[[], Coroutine[Any, Any, None]], restart_pause: float) -> None:
    """Run a background task, and restart it whenever an internal error has ended it."""
    while True:
        try:
            await task()
        except Exception:
            log.exception("a background task has failed and restarts")
            await asyncio.sleep(restart_pause)
