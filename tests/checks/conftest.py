"""The sandbox's accounts at emulators that the tests of a module share."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from campaign_gateway.connectors import contract, registry
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse
from campaign_gateway.connectors.providers.dotdigital import (
    DotdigitalAccount,
    DotdigitalCampaignInput,
    DotdigitalConnector,
)
from campaign_gateway.model import Outcome
from support.connectors import ACCOUNTS, emulator_of

Tables = Mapping[str, dict[str, Any]]


@pytest.fixture(scope="module")
def tables(serve: Callable[[ASGIApp], str]) -> Tables:
    """The tables of the accounts, by name."""
    providers = dict.fromkeys(provider for provider, _ in ACCOUNTS)
    mounts = [Mount(f"/{name}", emulator_of(name).create_emulator()) for name in providers]
    url = serve(Starlette(routes=mounts))
    return {
        name: {
            "provider": provider,
            "base_url": f"{url}/{provider}",
            **emulator_of(provider).ACCOUNTS[name],
        }
        for provider, name in ACCOUNTS
    }


@final
@dataclass(frozen=True)
class Unread(contract.Connector[DotdigitalCampaignInput]):
    """A connector whose provider documents no read, as one of another package can be."""

    provider = "dotdigital"
    title = DotdigitalConnector.title
    Account = DotdigitalAccount
    Input = DotdigitalCampaignInput
    example = DotdigitalConnector.example

    account: DotdigitalAccount

    def build_request(self, copy_input: DotdigitalCampaignInput) -> ProviderRequest:
        return DotdigitalConnector(self.account).build_request(copy_input)

    def parse_response(
        self, copy_input: DotdigitalCampaignInput, response: ProviderResponse
    ) -> Outcome:
        return DotdigitalConnector(self.account).parse_response(copy_input, response)


@pytest.fixture
def unread(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The table of an account whose state no read shows."""
    monkeypatch.setitem(registry.CONNECTORS, "dotdigital", Unread)
    registry.find_connector.cache_clear()
    yield tables["dotdigital"]
    registry.find_connector.cache_clear()
