"""The sandbox's accounts at emulators that the tests of a module share."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

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
