"""A provider on a real socket that can fail in every way, and connectors for it."""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.transport.client import Transport
from campaign_gateway.accounts.transport.rate_limit import RateLimiter
from campaign_gateway.accounts.transport.token_auth import TokenTransport
from campaign_gateway.connectors import building, errors, parsing
from campaign_gateway.connectors.account_settings import AccountSettings
from campaign_gateway.connectors.contract import (
    ChangesCopies,
    Connector,
    ListsCampaigns,
    NamesCopies,
    ProviderRequest,
    ProviderResponse,
    ReadsCampaigns,
    RenamesCopies,
    ReportsProgress,
    SearchPage,
    UnexpectedResponse,
    UsesAccessTokens,
)
from campaign_gateway.duplication import reconciliation
from campaign_gateway.duplication.service import DuplicationResult
from campaign_gateway.model import (
    DEFAULT_TIMING,
    Accepted,
    Campaign,
    Created,
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Outcome,
    Rejected,
    Timing,
    Unknown,
    WarningCode,
)
from campaign_gateway.observe.health import account_health
from campaign_gateway.sandbox.emulation import misbehave, serving
from support.open_duplicator import OpenDuplicator

SOURCE = "source"

Step = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class StubInput:
    campaign_id: str = SOURCE
    name: str | None = "Wanted"
    account: str | None = None


@dataclass
class StubProvider:
    """A provider's campaigns, the calls it received, and the faults of the next calls by kind.

    A fault is a status that the provider sends without doing anything, or a name that `misbehave`
    knows. None lets one call pass. `meanwhile` runs in each call of a kind before anything else.
    `response_fields` are the fields in the response to a copy.
    """

    campaigns: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    faults: defaultdict[str, deque[int | str | None]] = field(
        default_factory=lambda: defaultdict(deque)
    )
    meanwhile: dict[str, Step] = field(default_factory=dict)
    response_fields: tuple[str, ...] = ("id", "name")
    takes_names: bool = False

    def count(self, kind: str) -> int:
        return sum(call.split()[0] == kind for call in self.calls)

    def hang(self, kind: str) -> asyncio.Event:
        """Let the next call of this kind hang. The event is set when the provider receives it."""
        received = asyncio.Event()

        async def set_received() -> None:
            received.set()

        self.meanwhile[kind] = set_received
        self.faults[kind].append("hang")
        return received

    def add(self, source: str | None = SOURCE, name: str | None = None, **more: Any) -> str:
        campaign_id = f"c{len(self.campaigns) + 1}"
        self.campaigns[campaign_id] = {
            "id": campaign_id,
            "name": name or f"Copy of {source}",
            "copied_from": source,
            "created_at": datetime.now(UTC).isoformat(),
            "state": "PENDING",
            **more,
        }
        return campaign_id

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/copy", self._call("copy", self._copy), methods=["POST"]),
                Route("/rename/{id}", self._call("rename", self._rename), methods=["POST"]),
                Route("/campaign/{id}", self._call("read", self._read)),
                Route("/progress/{id}", self._call("progress", self._read)),
                Route("/list", self._call("list", self._list)),
            ]
        )

    def refusal(self, kind: str, request: Request) -> Response | None:
        """Return the response for callers without permission; None lets the call pass."""

    def _call(
        self, kind: str, carry_out: Callable[[Request, Any], Response]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            self.calls.append(f"{kind} {request.path_params.get('id', '')}".strip())
            body = json.loads(await request.body() or "null")
            if refusal := self.refusal(kind, request):
                return refusal
            if kind in self.meanwhile:
                await self.meanwhile[kind]()
            fault = self.faults[kind].popleft() if self.faults[kind] else None
            if isinstance(fault, int):
                return JSONResponse({"message": f"Refused with {fault}"}, fault)
            if fault == "proxy":
                return HTMLResponse("<h1>Not Found</h1>", 404)

            async def copy() -> Response:
                return carry_out(request, body)

            return await misbehave(fault, request, copy)

        return handle

    def _copy(self, request: Request, body: Any) -> Response:
        made = self.campaigns[
            self.add(body["source"], body.get("name") if self.takes_names else None)
        ]
        return JSONResponse({name: made[name] for name in self.response_fields}, 201)

    def _rename(self, request: Request, body: Any) -> Response:
        self.campaigns[request.path_params["id"]]["name"] = body["name"]
        return JSONResponse({})

    def _read(self, request: Request, body: Any) -> Response:
        campaign = self.campaigns.get(request.path_params["id"])
        return JSONResponse(campaign or {"message": "No such campaign"}, 200 if campaign else 404)

    def _list(self, request: Request, body: Any) -> Response:
        return JSONResponse({"campaigns": list(self.campaigns.values())})


@dataclass
class Copying(Connector[StubInput]):
    """The connector of a provider that can only copy. The others add capabilities."""

    url: str

    provider = "stub"
    title = "Stub"
    Account = AccountSettings
    Input = StubInput
    example = ""

    def _get(self, path: str) -> ProviderRequest:
        return ProviderRequest("GET", f"{self.url}/{path}", {})

    def _post(self, path: str, **fields: object) -> ProviderRequest:
        headers = {"content-type": "application/json"}
        return ProviderRequest("POST", f"{self.url}/{path}", headers, building.json_body(fields))

    def build_request(self, copy_input: StubInput) -> ProviderRequest:
        return self._post("copy", source=copy_input.campaign_id, name=copy_input.name)

    def parse_response(self, copy_input: StubInput, response: ProviderResponse) -> Outcome:
        if not response.is_success:
            return _failure(response)
        copy = FIELDS.parse(parsing.json_object(response))
        if copy is None:
            return Unknown(_failure(response, ErrorCode.OUTCOME_UNKNOWN).error)
        return Created(copy)


class Renaming(Copying, RenamesCopies[StubInput]):
    def build_rename(
        self, copy_input: StubInput, copy_id: str, lookup_response: ProviderResponse | None
    ) -> ProviderRequest:
        return self._post(f"rename/{copy_id}", name=copy_input.name)

    def parse_rename(self, response: ProviderResponse) -> Rejected | Unknown | None:
        return None if response.is_success else _failure(response)


class Changing(Copying, ChangesCopies[StubInput]):
    """A provider that takes a second option, `subject`, only in the call that names the copy."""

    def late_fields(self, copy_input: StubInput) -> list[str]:
        return ["subject"]

    def build_change(
        self, copy_input: StubInput, copy_id: str, lookup_response: ProviderResponse | None
    ) -> ProviderRequest:
        return self._post(f"rename/{copy_id}", name=copy_input.name)

    def parse_change(self, response: ProviderResponse) -> Rejected | Unknown | None:
        return None if response.is_success else _failure(response)


class Reading(Copying, ReadsCampaigns[StubInput]):
    def build_lookup(self, campaign_id: str, related_input: StubInput | None) -> ProviderRequest:
        return self._get(f"campaign/{campaign_id}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return parsing.one(response, campaign_id, FIELDS.parse)


class Listing(Copying, ListsCampaigns[StubInput]):
    """The list has the creation time and the source, unless a flag says otherwise."""

    reports_source = True
    list_has_all_fields = False

    def build_search(self, copy_input: StubInput, cursor: str | None) -> ProviderRequest:
        return self._get("list")

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        campaigns = parsing.campaigns(parsing.expect_object(response), "campaigns", FIELDS.parse)
        hidden: dict[str, Any] = {} if self.reports_source else {"copied_from": None}
        hidden |= {} if self.reports_creation_time else {"created_at": None}
        return SearchPage([replace(campaign, **hidden) for campaign in campaigns])


class Tracking(Copying, ReportsProgress[StubInput]):
    """A provider that returns the copy's id before it makes the copy."""

    def parse_response(self, copy_input: StubInput, response: ProviderResponse) -> Outcome:
        outcome = super().parse_response(copy_input, response)
        return Accepted("T-1", outcome.campaign) if isinstance(outcome, Created) else outcome

    def build_progress(self, copy_input: StubInput, copy_id: str) -> ProviderRequest:
        return self._get(f"progress/{copy_id}")

    def parse_progress(
        self, copy_input: StubInput, copy_id: str, response: ProviderResponse
    ) -> Created | Accepted | Rejected:
        body = parsing.json_object(response)
        copy = FIELDS.parse(body)
        if response.status == 404 and body is not None:
            return Rejected(_failure(response, ErrorCode.CAMPAIGN_NOT_FOUND).error, "T-2")
        parsing.expect_success(response)
        state = parsing.text(body, "state")
        if copy is None or state is None:
            raise UnexpectedResponse("no state")
        match state:
            case "COMPLETE":
                return Created(copy, "T-2")
            case "PARTIAL":
                message = parsing.text(body, "message")
                warning = errors.warning(self.title, WarningCode.PARTIAL_COPY, message)
                return Created(copy, "T-2", (warning,))
            case "FAILED":
                return Rejected(_failure(response, ErrorCode.CONFLICT).error, "T-2")
        return Accepted("T-2", copy)


class Named(Renaming, Reading):
    pass


class NamedAndChanged(Changing, Named):
    pass


class Found(Renaming, Reading, Listing):
    pass


class FoundUnchanged(Changing, Found):
    pass


class FoundByName(Reading, Listing):
    reports_source = False


class NamedAndListed(Found):
    """It names copies in a second call, and its list does not have their source."""

    reports_source = False


class FoundWithoutAges(Found):
    reports_creation_time = False


class NamedByProviderWithoutAges(FoundWithoutAges, NamesCopies):
    reports_source = False

    def is_name_of_copy(self, name: str, source_name: str) -> bool:
        return name == f"Copy of {source_name}"


class Tracked(Tracking, Reading):
    pass


class TrackedAndFound(Tracking, Renaming, Reading, Listing):
    pass


FIELDS = parsing.CampaignFields(
    {}, status="state", created_at="created_at", copied_from="copied_from"
)


def _failure(response: ProviderResponse, code: ErrorCode | None = None) -> Rejected | Unknown:
    message = parsing.text(parsing.json_object(response), "message")
    return errors.failure("Stub", response, code, provider_message=message)


@asynccontextmanager
async def account_at(
    connector: Any, timeout: float = 5, name: str = "stub", timing: Timing = DEFAULT_TIMING
) -> AsyncIterator[Account]:
    health = account_health(name, connector.provider, timing.problem_over_after)
    transport = Transport([], timeout, health=health)
    yield Account(
        name=name,
        address="stub",
        shared_campaigns=None,
        timeout_seconds=timeout,
        connector=connector,
        transport=TokenTransport(transport, connector, timing.token_timeout)
        if isinstance(connector, UsesAccessTokens)
        else transport,
        rate_limiter=RateLimiter(32, None),
        health=health,
        timing=timing,
    )
    await transport.close()


@dataclass
class StubGateway:
    """The gateway's core over a ledger that can `reopen`, with one account at a stub provider."""

    url: str
    provider: StubProvider
    account: Account
    ledger: Any

    def __post_init__(self) -> None:
        self.accounts = {self.account.name: self.account}
        self.duplicator = OpenDuplicator(self.accounts, self.ledger, deadline=20)

    async def ask(
        self, campaign: StubInput | None = None, key: str = "k", override_of: str | None = None
    ) -> DuplicationResult:
        asked = campaign or StubInput()
        return await self.duplicator.ask(key, "stub", asked, override_of)

    async def copy(self, campaign: StubInput | None = None, key: str = "k") -> Duplication:
        result = await self.ask(campaign, key)
        assert result.error is None
        assert result.duplication is not None
        return result.duplication

    async def lose(self, campaign: StubInput | None = None, key: str = "k") -> Duplication:
        lost = await self.copy(campaign, key)
        assert lost.status is DuplicationStatus.UNKNOWN
        return lost

    async def recorded(self, key: str = "k") -> Duplication:
        record: Duplication | None = await self.ledger.find("everyone", key)
        assert record is not None
        return record

    async def is_created(self) -> bool:
        return (await self.recorded()).status is DuplicationStatus.CREATED

    async def due(self, by: datetime | None = None) -> Sequence[Duplication]:
        """Return the duplications that are due by then, or at any time."""
        at = by or datetime.now(UTC) + timedelta(days=365)
        taken: list[Duplication] = []
        for account in await self.ledger.due_accounts(at):
            taken += await self.ledger.claim_due(account, at, 10, at)
        return taken

    async def check(self) -> int:
        """Check every unsettled duplication once, as the reconciler does."""
        due = await self.due()
        for record in due:
            await reconciliation.check_one(self.accounts, self.ledger, record)
        return len(due)

    @asynccontextmanager
    async def reconciling(self) -> AsyncIterator[None]:
        timing = replace(self.account.timing, reconcile_interval=0.01)
        task = asyncio.create_task(reconciliation.reconcile(self.accounts, self.ledger, timing))
        yield
        task.cancel()
        await asyncio.wait([task])

    async def crash(self) -> None:
        """Stop as if killed, with nothing finished, and start again."""
        tasks = [running.task for running in self.duplicator._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await self.ledger.reopen()
        self.duplicator = OpenDuplicator(self.accounts, self.ledger, deadline=20)


@asynccontextmanager
async def gateway_of(
    kind: type[Copying],
    ledger: Any,
    timeout: float = 5,
    provider: StubProvider | None = None,
    timing: Timing = DEFAULT_TIMING,
) -> AsyncIterator[StubGateway]:
    """Serve a provider of that kind, with a gateway in front of it."""
    provider = provider or StubProvider()
    async with (
        serving(provider.app()) as url,
        account_at(kind(url), timeout, timing=timing) as account,
    ):
        yield StubGateway(url, provider, account, ledger)


def timeout_for(fault: object) -> float:
    """Return the timeout of a call: only one that hangs has to end soon."""
    return 2 if fault == "hang" else 20
