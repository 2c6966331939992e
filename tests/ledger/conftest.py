"""Ledgers of both engines. Each test has its own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.ledger import Ledger, open_ledger
from campaign_gateway.ledger.ids import new_id
from campaign_gateway.model import Intent, Timing
from support.postgres import PostgresServer


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    if request.param == "sqlite":
        return sqlite_url
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.create_ledger()


@pytest.fixture
async def open_at() -> AsyncIterator[Callable[..., Awaitable[Ledger]]]:
    """Opens ledgers, and closes them after the test. `timing` has fields of `Timing`."""
    opened: list[Ledger] = []

    async def open_one(url: str, *, as_operator: bool = False, **timing: Any) -> Ledger:
        opened.append(await open_ledger(url, as_operator=as_operator, timing=Timing(**timing)))
        return opened[-1]

    yield open_one
    for ledger in reversed(opened):
        await ledger.close()


@pytest.fixture
async def ledger(url: str, open_at: Callable[..., Awaitable[Ledger]]) -> Ledger:
    return await open_at(url)


@pytest.fixture
def intent() -> Callable[..., Intent]:
    def make(key: str, **changes: Any) -> Intent:
        return replace(
            Intent(
                id=new_id(),
                attempt_id=new_id(),
                scope="everyone",
                key=key,
                fingerprint="f",
                provider="braze",
                account="braze",
                source_campaign_id="c1",
                requested_name="Copy",
                input="{}",
                id_namespace="rest.example.com",
            ),
            **changes,
        )

    return make
