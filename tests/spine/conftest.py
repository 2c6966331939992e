"""The duplication without HTTP: an account at an emulator, and a ledger that can fail."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import strawberry

from campaign_gateway.accounts.account import Account, open_account
from campaign_gateway.connectors.providers.sonarly import SonarlyCampaignInput
from campaign_gateway.ledger import Ledger, open_ledger
from campaign_gateway.ledger.engine import CommitUncertain, LedgerUnavailable
from campaign_gateway.model import LostTime, Timing
from campaign_gateway.observe.health import Health
from campaign_gateway.sandbox.emulation import serving
from campaign_gateway.sandbox.emulators.sonarly import ACCOUNTS, GROUP, create_emulator
from campaign_gateway.settings import parse_settings
from support.plain import NO_CAS
from support.stub_provider import Copying, StubGateway, gateway_of


class Flaky:
    """A real ledger. `failures` says how often a method fails, `failures_after` after its work."""

    def __init__(self, ledger: Ledger, url: str) -> None:
        self.ledger = ledger
        self.url = url
        self.failures: dict[str, int] = {}
        self.failures_after: dict[str, int] = {}

    async def reopen(self) -> None:
        """Open the ledger as the next gateway does, after this one has stopped."""
        await self.ledger.close()
        self.ledger = await open_ledger(self.url)

    def now(self) -> datetime:
        return self.ledger.now()

    @property
    def health(self) -> Health:
        return self.ledger.health

    @property
    def lost_times(self) -> Sequence[LostTime]:
        return self.ledger.lost_times

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **named: Any) -> Any:
            if self.failures.get(name, 0) > 0:
                self.failures[name] -= 1
                raise LedgerUnavailable("disk full")
            result = await getattr(self.ledger, name)(*arguments, **named)
            if self.failures_after.get(name, 0) > 0:
                self.failures_after[name] -= 1
                raise CommitUncertain("connection lost")
            return result

        return call


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Flaky]:
    url = f"sqlite:///{tmp_path}/ledger.db"
    flaky = Flaky(await open_ledger(url), url)
    yield flaky
    await flaky.ledger.close()


@pytest.fixture
async def provider() -> AsyncIterator[str]:
    async with serving(create_emulator()) as url:
        yield url


@pytest.fixture
async def account(provider: str) -> AsyncIterator[Account]:
    fields = {
        "provider": "sonarly",
        "base_url": provider,
        "timeout_seconds": 3,
        **ACCOUNTS["sonarly"],
    }
    settings = parse_settings({"accounts": {"sonarly": fields}}, {})
    opened = open_account("sonarly", settings.accounts["sonarly"])
    yield opened
    await opened.transport.close()


@pytest.fixture
def copies(provider: str) -> Any:
    async def count() -> int:
        async with httpx.AsyncClient(trust_env=False, verify=NO_CAS) as client:
            response = await client.get(f"{provider}/_emulator/copies")
        asked: int = response.json()["asked"]
        return asked

    return count


@pytest.fixture
def campaign() -> Any:
    def make(campaign_id: str = "507f1f77bcf86cd799439011", **fields: Any) -> SonarlyCampaignInput:
        options = {"account": None, "name": "Copy", "lead_ids": None, **fields}
        return SonarlyCampaignInput(
            account_group_id=strawberry.ID(GROUP),
            campaign_id=strawberry.ID(campaign_id),
            audience_id=strawberry.ID("507f1f77bcf86cd799439021"),
            **options,
        )

    return make


@pytest.fixture
async def open_gateway(ledger: Flaky) -> AsyncIterator[Callable[..., Awaitable[StubGateway]]]:
    """Opens a gateway with a stub provider of a kind. `timing` has fields of `Timing`."""
    async with AsyncExitStack() as opened:

        async def open_one(kind: type[Copying], timeout: float = 5, **timing: Any) -> StubGateway:
            gateway = gateway_of(kind, ledger, timeout, timing=Timing(**timing))
            return await opened.enter_async_context(gateway)

        yield open_one
