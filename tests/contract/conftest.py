"""Fixtures over every connector: its accounts in the sandbox, its example, its recordings."""

import copy
import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import pytest
import strawberry
from graphql import ObjectValueNode, parse_value, print_ast
from starlette.types import ASGIApp

from campaign_gateway.accounts import Account
from campaign_gateway.api.inputs import DuplicateCampaignInput
from campaign_gateway.connectors.contract import Connector, ProviderResponse
from campaign_gateway.connectors.registry import CONNECTORS

ROOMS = Path(__file__).parents[1] / "connectors"
RECORDINGS = sorted(ROOMS.glob("*/recordings/*.http"))


def emulator_of(provider: str) -> ModuleType:
    return importlib.import_module(f"campaign_gateway.sandbox.emulators.{provider}")


# Each account that an emulator lets in, as its provider and its name: one provider may have
# several, such as one a format.
ACCOUNTS = [(each, name) for each in sorted(CONNECTORS) for name in emulator_of(each).ACCOUNTS]
OUTCOMES = [
    (provider, name, outcome)
    for provider, name in ACCOUNTS
    for outcome in emulator_of(provider).OUTCOMES
]


def _name_of(recording: Path) -> str:
    return f"{recording.parents[1].name}/{recording.stem}"


def _recorded(*kinds: str) -> list[Path]:
    return [each for each in RECORDINGS if each.stem.startswith(kinds)]


def _as_id(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


@cache
def connect(provider: str, name: str) -> Connector[Any]:
    connector = CONNECTORS[provider]
    account = {
        "provider": provider,
        "base_url": "https://provider.example/behind/a/path",
        **emulator_of(provider).ACCOUNTS[name],
    }
    return connector(connector.Account.model_validate(account))


@cache
def example_of(provider: str, changes: str = "") -> Any:
    """The connector's example as the gateway's own schema reads it; changes are GraphQL fields."""
    fields: dict[str, str] = {}
    for text in (CONNECTORS[provider].example, changes):
        value = parse_value(f"{{{text}}}")
        assert isinstance(value, ObjectValueNode)
        fields |= {field.name.value: print_ast(field.value) for field in value.fields}
    taken: list[Any] = []

    @strawberry.type
    class Query:
        @strawberry.field
        def take(self, campaign: DuplicateCampaignInput) -> bool:
            taken.append(campaign.chosen()[1])
            return True

    written = ", ".join(f"{name}: {value}" for name, value in fields.items())
    result = strawberry.Schema(Query).execute_sync(
        f"{{ take(campaign: {{ {provider}: {{ {written} }} }}) }}"
    )
    assert not result.errors
    return taken[0]


@pytest.fixture(scope="module", params=ACCOUNTS, ids=_as_id)
def account(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


@pytest.fixture(scope="module")
def room(account: tuple[str, str]) -> ModuleType:
    """The account's emulator."""
    return emulator_of(account[0])


@pytest.fixture(scope="module")
def connector(account: tuple[str, str]) -> Connector[Any]:
    return connect(*account)


@pytest.fixture(scope="module")
def campaign(account: tuple[str, str]) -> Any:
    return example_of(account[0])


@pytest.fixture
def first_connector() -> Callable[[str], tuple[Connector[Any], Any]]:
    """A provider's connector, for its first account, and its example."""

    def first(provider: str) -> tuple[Connector[Any], Any]:
        names = (name for each, name in ACCOUNTS if each == provider)
        return connect(provider, next(names)), example_of(provider)

    return first


@pytest.fixture(
    params=_recorded("created", "accepted", "rejected", "unknown"),
    ids=_name_of,
)
def answer_recording(request: pytest.FixtureRequest) -> Path:
    """An answer to the call that makes a copy."""
    return Path(request.param)


@pytest.fixture(params=_recorded("created", "accepted"), ids=_name_of)
def good_recording(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture(params=_recorded("renamed", "unnamed"), ids=_name_of)
def rename_recording(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture(params=_recorded("progress"), ids=_name_of)
def progress_recording(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture(params=_recorded("signin"), ids=_name_of)
def sign_in_recording(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture(params=_recorded("search"), ids=_name_of)
def search_recording(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture(params=_recorded("lookup"), ids=_name_of)
def lookup_recording(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture(scope="module")
def emulator_url(serve: Callable[[ASGIApp], str]) -> Callable[[str], str]:
    """The base URL of a provider's emulator, one for the whole module."""

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
    """Asks a provider's emulator for every copy that it has really made."""

    def ask(provider: str) -> dict[str, Any]:
        connection = HTTPConnection(urlsplit(emulator_url(provider)).netloc, timeout=10)
        connection.request("GET", "/_emulator/copies")
        found: dict[str, Any] = json.load(connection.getresponse())
        connection.close()
        return found

    return ask


@pytest.fixture(params=OUTCOMES, ids=_as_id)
def emulated(
    request: pytest.FixtureRequest,
    emulator_url: Callable[[str], str],
    open_at: Callable[..., Account],
) -> tuple[Account, Any, str]:
    """An account at its emulator, an input that asks for one of its outcomes, and its words."""
    provider, name, source = request.param
    room = emulator_of(provider)
    description = room.OUTCOMES[source]
    # "copied, with kind: CAMPAIGN" says what else the input needs.
    _, _, changes = description.partition(", with ")
    campaign = replace(example_of(provider, changes), campaign_id=source)
    patience = 0.5 if "never answered" in description else 5
    settings = {"timeout_seconds": patience, **room.ACCOUNTS[name]}
    return open_at(provider, emulator_url(provider), **settings), campaign, description


@pytest.fixture
def spoilt() -> Callable[[ProviderResponse], Iterator[tuple[str, ProviderResponse]]]:
    """Gives an answer with one part of its body after the other changed in every wrong way."""
    return _spoil


def _spoil(response: ProviderResponse) -> Iterator[tuple[str, ProviderResponse]]:
    if b"<" in response.body[:1]:
        bodies = _spoil_xml(response.body)
    elif b"{" in response.body[:1]:
        bodies = _spoil_json(response.body)
    else:
        return
    for change, body in bodies:
        yield change, replace(response, body=body)


_REMOVED = object()
_WRONG_VALUES: list[Any] = [
    _REMOVED, None, "", " ", "no id!", "../97", "9" * 1_000, "\ud800", "\x00", True, False, -1, 0.5,
    10**30, -(10**30), [], {}, ["no id!"], {"id": "no id!"}, "2026-05-01T12:00:00",
    "0001-01-01T00:00:00+23:59", "2026-05-01T12:00:00+02:00",
]  # fmt: skip


def _spoil_json(body: bytes) -> Iterator[tuple[str, bytes]]:
    whole = json.loads(body)
    for path in _paths_in(whole):
        for wrong in _WRONG_VALUES:
            holder = {"whole": copy.deepcopy(whole)}
            *way, last = ["whole", *path]
            target: Any = holder
            for step in way:
                target = target[step]
            if wrong is _REMOVED:
                del target[last]
            else:
                target[last] = wrong
            changed = json.dumps(holder.get("whole")).encode()
            yield f"{path} became {str(wrong)[:40]!r}", changed


def _paths_in(value: object, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, each in items:
        yield from _paths_in(each, (*above, key))


_WRONG_ELEMENTS = [
    "<{0}/>", "<{0}> </{0}>", "<{0}>no id!</{0}>", "<{0}>-1</{0}>", "<{0}>0.5</{0}>",
    "<{0}>true</{0}>", "<{0}>" + "9" * 1_000 + "</{0}>", "<{0}>&amp;lt;</{0}>",
    "<{0}><id>no id!</id></{0}>", "<{0}>1</{0}><{0}>2</{0}>", "<other/>", "<{0} value='97'/>",
    "<{0}>&undefined;</{0}>", "<{0}>",
]  # fmt: skip


def _spoil_xml(body: bytes) -> Iterator[tuple[str, bytes]]:
    count = sum(1 for _ in ET.fromstring(body).iter())
    for number in range(count):
        for wrong in _WRONG_ELEMENTS:
            root = ET.fromstring(body)
            element = list(root.iter())[number]
            tag, tail = element.tag, element.tail
            element.clear()
            element.tag, element.tail = "spoilt", tail
            changed = ET.tostring(root).replace(b"<spoilt />", wrong.format(tag).encode())
            yield f"{tag} became {wrong[:40]}", changed
