"""The connector that a suite tries, with its emulator, its recordings and what to expect."""

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from functools import cache, cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

import strawberry
from graphql import ObjectValueNode, parse_value, print_ast
from pydantic import SecretStr

from campaign_gateway.accounts.account import Account, open_account
from campaign_gateway.api.inputs import DuplicateCampaignInput, input_type
from campaign_gateway.connectors.contract import Connector, Grant, ProviderResponse
from campaign_gateway.model import (
    Campaign,
    Created,
    ErrorCode,
    Failure,
    Outcome,
    Refused,
    Rejected,
    Unknown,
)

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


@dataclass(frozen=True)
class LateOptions:
    """Options that one account sets after the copy, and where its emulator then has them.

    `fields` are those of the input, in Python. `path`, with `{id}` for the copy's id, and `headers`
    are a read of the copy. `expected` are fields in the response, at any level.
    """

    fields: Mapping[str, Any]
    path: str
    headers: Mapping[str, str]
    expected: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Subject:
    """What `campaign_gateway.testing.connector_suite` was called with."""

    connector: type[Connector[Any]]
    emulator: ModuleType
    folder: Path
    permissions: Mapping[str, tuple[Grant, Grant]]
    documented_success: int | None
    success_changes: str
    documented_refusals: Mapping[int, ErrorCode]
    reading_posts: Collection[str]
    access_read: int
    fingerprint: str | None
    given_names: Mapping[str, str]
    late_options: Mapping[str, LateOptions]
    wrong_options: Sequence[Mapping[str, Any]]

    @property
    def provider(self) -> str:
        return self.connector.provider

    @property
    def refusals(self) -> Mapping[int, ErrorCode]:
        return {**REFUSALS, **self.documented_refusals}

    @cached_property
    def requests(self) -> Mapping[str, Any]:
        """The content of `requests.toml`."""
        return tomllib.loads((self.folder / "requests.toml").read_text("utf-8"))

    def recording(self, name: str) -> Path:
        return self.folder / "recordings" / f"{name}.http"

    def recordings(self, *kinds: str) -> list[Path]:
        """Return the recordings of these kinds, or else all."""
        paths = self._recordings
        return [path for path in paths if not kinds or path.stem.partition(".")[0] in kinds]

    @cached_property
    def _recordings(self) -> Sequence[Path]:
        return sorted((self.folder / "recordings").glob("*.http"))


@cache
def connect(subject: Subject, name: str) -> Connector[Any]:
    """Return the connector of an account that the emulator accepts.

    A provider can have several accounts, for example one per format.
    """
    account = {
        "provider": subject.provider,
        "base_url": "https://provider.example/behind/a/path",
        **subject.emulator.ACCOUNTS[name],
    }
    return subject.connector(subject.connector.Account.model_validate(account))


def first_connector(subject: Subject) -> tuple[Any, Any]:
    """Return the connector of the first account, and the example."""
    return connect(subject, next(iter(subject.emulator.ACCOUNTS))), example_of(subject.connector)


def open_at(subject: Subject, url: str, **settings: object) -> Account:
    """Open an account at a URL, with more settings by name. The caller must close it."""
    table = {"provider": subject.provider, "base_url": url, "timeout_seconds": 5, **settings}
    return open_account("tried", subject.connector.Account.model_validate(table))


@cache
def example_of(connector: type[Connector[Any]], changes: str = "") -> Any:
    """Return the example, parsed by the gateway's schema. `changes` are GraphQL fields."""
    fields: dict[str, str] = {}
    for text in (connector.example, changes):
        value = parse_value(f"{{{text}}}")
        assert isinstance(value, ObjectValueNode)
        fields |= {field.name.value: print_ast(field.value) for field in value.fields}
    inputs: list[Any] = []
    campaign_type = input_type({connector.provider: connector})

    @strawberry.type
    class Query:
        @strawberry.field
        def take(
            self,
            campaign: Annotated[
                DuplicateCampaignInput, strawberry.argument(graphql_type=campaign_type)
            ],
        ) -> bool:
            inputs.append(campaign.chosen()[1])
            return True

    arguments = ", ".join(f"{name}: {value}" for name, value in fields.items())
    result = strawberry.Schema(Query).execute_sync(
        f"{{ take(campaign: {{ {connector.provider}: {{ {arguments} }} }}) }}"
    )
    assert not result.errors
    return inputs[0]


def can_be_named(copy_input: Any) -> bool:
    """Return whether callers can choose the name of the copy."""
    return any(field.name == "name" for field in fields(copy_input))


def secrets_of(subject: Subject, secret: str) -> dict[str, str]:
    """Return settings that give each secret of an account this value."""
    settings = subject.connector.Account.model_fields
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


def assert_valid_failure(failure: Failure | None, response: ProviderResponse) -> None:
    """Assert that a call after the copy only counts as done if its whole response says so."""
    if failure is None:
        assert response.is_success
        assert response.complete
    else:
        assert_valid(failure)


def assert_valid_campaign(campaign: Campaign) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,128}", campaign.id)
    for value in (campaign.name, campaign.description, campaign.provider_status):
        assert value is None or isinstance(value, str)
    for instant in (campaign.created_at, campaign.updated_at):
        assert instant is None or instant.utcoffset() == timedelta(0)
    if campaign.url is not None:
        assert re.fullmatch(r"https://[!-~]{1,2000}", campaign.url)
        assert "@" not in urlsplit(campaign.url).netloc
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
