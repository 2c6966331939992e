"""Every connector with its accounts, its example and its recordings, for tests over all of them."""

import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import timedelta
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import strawberry
from graphql import ObjectValueNode, parse_value, print_ast
from pydantic import SecretStr

from campaign_gateway.api.inputs import DuplicateCampaignInput
from campaign_gateway.connectors.contract import Connector, ProviderResponse
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.model import Campaign, Created, ErrorCode, Outcome, Refused, Rejected, Unknown

ROOMS = Path(__file__).parents[1] / "connectors"
RECORDINGS = sorted(ROOMS.glob("*/recordings/*.http"))

ReadRecording = Callable[[Path], ProviderResponse]

# The only statuses that prove a rejection. It repeats `connectors.errors.REFUSALS` on purpose: the
# promise depends on the list, so a change of it must fail a test.
REFUSALS = {
    400: ErrorCode.INVALID_INPUT,
    401: ErrorCode.AUTHENTICATION_FAILED,
    402: ErrorCode.QUOTA_EXCEEDED,
    403: ErrorCode.PERMISSION_DENIED,
    404: ErrorCode.CAMPAIGN_NOT_FOUND,
    405: ErrorCode.PROVIDER_UNAVAILABLE,
    409: ErrorCode.CONFLICT,
    410: ErrorCode.CAMPAIGN_NOT_FOUND,
    413: ErrorCode.INVALID_INPUT,
    414: ErrorCode.INVALID_INPUT,
    415: ErrorCode.INVALID_INPUT,
    422: ErrorCode.INVALID_INPUT,
    426: ErrorCode.PROVIDER_UNAVAILABLE,
    429: ErrorCode.RATE_LIMITED,
    431: ErrorCode.INVALID_INPUT,
}

# Statuses that only one provider documents.
REFUSALS_OF: dict[str, dict[int, ErrorCode]] = {
    "hubspot": {423: ErrorCode.RATE_LIMITED, 477: ErrorCode.RATE_LIMITED},
}


def refusals_of(connector: Connector[Any]) -> dict[int, ErrorCode]:
    return REFUSALS | REFUSALS_OF.get(connector.provider, {})


def emulator_of(provider: str) -> ModuleType:
    return importlib.import_module(f"campaign_gateway.sandbox.emulators.{provider}")


# Every account that an emulator accepts, as provider and name. A provider can have several
# accounts, for example one per format.
ACCOUNTS = [
    (provider, name) for provider in sorted(CONNECTORS) for name in emulator_of(provider).ACCOUNTS
]
OUTCOMES = [
    (provider, name, outcome)
    for provider, name in ACCOUNTS
    for outcome in emulator_of(provider).OUTCOMES
]


@cache
def connect(provider: str, name: str) -> Connector[Any]:
    connector = CONNECTORS[provider]
    account = {
        "provider": provider,
        "base_url": "https://provider.example/behind/a/path",
        **emulator_of(provider).ACCOUNTS[name],
    }
    return connector(connector.Account.model_validate(account))


def accounts_with(capability: type) -> list[tuple[str, str]]:
    """Return the accounts whose connector has the capability. An empty list would test nothing."""
    accounts = [account for account in ACCOUNTS if isinstance(connect(*account), capability)]
    assert accounts
    return accounts


def first_connector(provider: str) -> tuple[Connector[Any], Any]:
    """Return the connector of a provider's first account, and the provider's example."""
    name = next(name for candidate, name in ACCOUNTS if candidate == provider)
    return connect(provider, name), example_of(provider)


@cache
def example_of(provider: str, changes: str = "") -> Any:
    """Return the example, parsed by the gateway's schema. `changes` are GraphQL fields."""
    fields: dict[str, str] = {}
    for text in (CONNECTORS[provider].example, changes):
        value = parse_value(f"{{{text}}}")
        assert isinstance(value, ObjectValueNode)
        fields |= {field.name.value: print_ast(field.value) for field in value.fields}
    inputs: list[Any] = []

    @strawberry.type
    class Query:
        @strawberry.field
        def take(self, campaign: DuplicateCampaignInput) -> bool:
            inputs.append(campaign.chosen()[1])
            return True

    arguments = ", ".join(f"{name}: {value}" for name, value in fields.items())
    result = strawberry.Schema(Query).execute_sync(
        f"{{ take(campaign: {{ {provider}: {{ {arguments} }} }}) }}"
    )
    assert not result.errors
    return inputs[0]


def recordings(*kinds: str) -> list[Path]:
    """Return the recordings of these kinds. An empty list would test nothing."""
    paths = [path for path in RECORDINGS if path.stem.partition(".")[0] in kinds]
    assert paths
    return paths


def recording_name(recording: object) -> str:
    assert isinstance(recording, Path)
    return f"{recording.parents[1].name}/{recording.stem}"


def provider_of(recording: Path) -> str:
    return recording.parents[1].name


def as_id(value: object) -> str:
    """Return the name of a case for pytest's reports."""
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


def secrets_of(provider: str, secret: str) -> dict[str, str]:
    """Return settings that give each secret of an account this value."""
    settings = CONNECTORS[provider].Account.model_fields
    secrets = [name for name, field in settings.items() if SecretStr in flat(field.annotation)]
    assert secrets
    return dict.fromkeys(secrets, secret)


def flat(hint: Any) -> Iterator[Any]:
    """Yield a type hint and every hint inside it."""
    yield hint
    for argument in get_args(hint):
        yield from flat(argument)


@lru_cache
def assert_valid(outcome: Outcome) -> None:
    """Assert that the ledger can store the outcome, and that a caller can receive it."""
    if isinstance(outcome, Created):
        assert_valid_campaign(outcome.campaign)
    if isinstance(outcome, Rejected | Unknown):
        error = outcome.error
        assert isinstance(outcome, Unknown) == (error.code is ErrorCode.OUTCOME_UNKNOWN)
        assert error.retry_after is None or 0 <= error.retry_after <= 3600
        assert error.retry_after is None or error.code is ErrorCode.RATE_LIMITED
        assert len(error.provider_message or "") <= 200
        assert len(error.provider_code or "") <= 100
    for text in texts_in(outcome):
        text.encode("utf-8")


def assert_valid_campaign(campaign: Campaign) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,128}", campaign.id)
    for value in (campaign.name, campaign.description, campaign.provider_status):
        assert value is None or isinstance(value, str)
    for instant in (campaign.created_at, campaign.updated_at):
        assert instant is None or instant.utcoffset() == timedelta(0)
    for text in texts_in(campaign):
        text.encode("utf-8")


def texts_in(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from texts_in(item)
        case list() | tuple():
            for item in value:
                yield from texts_in(item)
        case _ if is_dataclass(value):
            for field in fields(value):
                yield from texts_in(getattr(value, field.name))


def assert_blames(refusal: Refused, field: str) -> None:
    assert refusal.error.code == ErrorCode.INVALID_INPUT
    assert refusal.error.field == (field,)
    assert len(refusal.error.message) < 500
