"""One gateway with callers of different rights, for the cases of a module."""

from collections.abc import Iterator

import pytest

from support.calling import CalledGateway, called_gateway

CALLERS: dict[str, dict[str, object]] = {
    "admin": {"accounts": "*", "may": ["copy", "read", "activate", "introspect", "name-person"]},
    "web-team": {
        "accounts": ["sonarly", "altcraft", "altcraft-xml", "meta"],
        "may": ["copy", "read"],
    },
    "store": {"accounts": ["sonarly", "braze"], "may": ["copy", "read"]},
    "reader": {"accounts": ["sonarly"], "may": ["read"]},
    "writer": {"accounts": ["sonarly"], "may": ["copy"]},
    "router": {"accounts": "*", "may": ["copy", "read", "name-person"]},
}


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CalledGateway]:
    with called_gateway(tmp_path_factory.mktemp("called"), CALLERS) as running:
        yield running
