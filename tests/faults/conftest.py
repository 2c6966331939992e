"""The faulty provider, the HTTP client and the ledgers for the drills."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from support.faulty_provider import Provider, faulty_provider
from support.plain import NO_CAS
from support.plain_transport import PlainTransport
from support.postgres import PostgresServer


@pytest.fixture
def provider() -> Iterator[Provider]:
    with faulty_provider() as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=PlainTransport(), trust_env=False, verify=NO_CAS, timeout=60
    ) as client:
        yield client


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The URL of a new ledger."""
    return postgres.create_ledger()


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new ledger, once for each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    url: str = request.getfixturevalue("postgres_url")
    return url
