"""Fixtures over every connector: its accounts in the sandbox, its example, its recordings."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from http.client import HTTPConnection
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.types import ASGIApp

from campaign_gateway.accounts.account import Account
from campaign_gateway.connectors.contract import Connector
from support.connectors import (
    ACCOUNTS,
    OUTCOMES,
    as_id,
    connect,
    emulator_of,
    example_of,
    recording_name,
    recordings,
)


@pytest.fixture(scope="module", params=ACCOUNTS, ids=as_id)
def account(request: pytest.FixtureRequest) -> Any:
    """The provider and name of an account. A file about one capability replaces this fixture."""
    return request.param


@pytest.fixture(scope="module")
def emulator(account: tuple[str, str]) -> ModuleType:
    return emulator_of(account[0])


@pytest.fixture(scope="module")
def connector(account: tuple[str, str]) -> Connector[Any]:
    return connect(*account)


@pytest.fixture(scope="module")
def copy_input(account: tuple[str, str]) -> Any:
    return example_of(account[0])


@pytest.fixture(params=recordings("created", "accepted", "rejected", "unknown"), ids=recording_name)
def copy_recording(request: pytest.FixtureRequest) -> Any:
    """A response to the call that makes a copy."""
    return request.param


@pytest.fixture(params=recordings("created", "accepted"), ids=recording_name)
def success_recording(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def emulator_url(serve: Callable[[ASGIApp], str]) -> Callable[[str], str]:
    """Returns the base URL of a provider's emulator. The whole module shares the emulator."""

    @cache
    def url_of(provider: str) -> str:
        return serve(emulator_of(provider).create_emulator())

    return url_of


@pytest.fixture
def live(
    account: tuple[str, str],
    emulator_url: Callable[[str], str],
    open_at: Callable[..., Account],
) -> Account:
    """The account at its running emulator."""
    provider, name = account
    return open_at(provider, emulator_url(provider), **emulator_of(provider).ACCOUNTS[name])


@pytest.fixture
def counted(emulator_url: Callable[[str], str]) -> Callable[[str], dict[str, Any]]:
    """Returns the copies that a provider's emulator has made, by the emulator's own count."""

    def ask(provider: str) -> dict[str, Any]:
        connection = HTTPConnection(urlsplit(emulator_url(provider)).netloc, timeout=10)
        connection.request("GET", "/_emulator/copies")
        copies: dict[str, Any] = json.load(connection.getresponse())
        connection.close()
        return copies

    return ask


@pytest.fixture(params=OUTCOMES, ids=as_id)
def emulated(
    request: pytest.FixtureRequest,
    emulator_url: Callable[[str], str],
    open_at: Callable[..., Account],
) -> tuple[Account, Any, str]:
    """An account at its emulator, an input for one of its outcomes, and the description."""
    provider, name, source = request.param
    emulator = emulator_of(provider)
    description = emulator.OUTCOMES[source]
    # "copied, with kind: CAMPAIGN" names the other fields that the input needs.
    _, _, changes = description.partition(", with ")
    copy_input = replace(example_of(provider, changes), campaign_id=source)
    timeout = 0.5 if "no response" in description else 5
    settings = {"timeout_seconds": timeout, **emulator.ACCOUNTS[name]}
    return open_at(provider, emulator_url(provider), **settings), copy_input, description
