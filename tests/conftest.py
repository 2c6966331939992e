"""What any test may use: apps on real sockets, accounts that reach them, and recordings."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from starlette.types import ASGIApp

from campaign_gateway.accounts import Account, open_account
from campaign_gateway.connector import ProviderResponse
from campaign_gateway.connectors import CONNECTORS
from campaign_gateway.emulation import serving
from campaign_gateway.outcomes import Outcome


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[ASGIApp], str]]:
    """Serves an app until the module's tests are done, and gives its base URL."""
    # In a thread of its own, because a test's event loop ends with the test.
    with start_blocking_portal() as portal, ExitStack() as servers:
        yield lambda app: servers.enter_context(portal.wrap_async_context_manager(serving(app)))


@pytest.fixture
async def open_at() -> AsyncIterator[Callable[..., Account]]:
    """Opens an account of a provider at a URL; more settings go in by name."""
    opened: list[Account] = []

    def open_one(provider: str, url: str, **settings: object) -> Account:
        table = {"provider": provider, "base_url": url, "timeout_seconds": 5, **settings}
        opened.append(open_account("tried", CONNECTORS[provider].Account.model_validate(table)))
        return opened[-1]

    yield open_one
    for account in opened:
        await account.transport.close()


@pytest.fixture
def duplicate() -> Callable[[Account, Any], Awaitable[Outcome]]:
    """Asks the provider for one copy, as the gateway does. Raises what the transport raises."""

    async def once(account: Account, campaign: Any) -> Outcome:
        async def cross() -> None: ...

        request = account.connector.build_request(campaign)
        response = await account.transport.send(request, cross)
        return account.connector.read_answer(campaign, response)

    return once


@pytest.fixture
def read_recording() -> Callable[[Path], ProviderResponse]:
    """A recorded answer as the transport hands it to a connector."""

    def read(path: Path) -> ProviderResponse:
        head, _, body = path.read_bytes().partition(b"\n\n")
        status_line, *lines = head.decode("ascii").splitlines()
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        return ProviderResponse(int(status_line.split()[1]), headers, body)

    return read
