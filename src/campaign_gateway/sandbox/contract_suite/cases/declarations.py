"""What a connector, its emulator and its folder of tests declare."""

from dataclasses import fields
from functools import cache
from typing import Any

from typing_extensions import get_protocol_members

from campaign_gateway.api.schema import client_sdl
from campaign_gateway.connectors.account_settings import AccountSettings
from campaign_gateway.connectors.contract import (
    ActivatesCopies,
    ChangesCopies,
    Connector,
    HasIdNamespaces,
    ListsAssetTypes,
    ListsCampaigns,
    NamesCopies,
    NarrowsSearches,
    ReadsCampaigns,
    RenamesCopies,
    ReportsProgress,
    ShowsAccess,
    UsesAccessTokens,
)
from campaign_gateway.connectors.registry import CONNECTORS, find_connector
from campaign_gateway.sandbox.contract_suite.subject import Subject, can_be_named

CAPABILITIES = [
    ActivatesCopies,
    ChangesCopies,
    HasIdNamespaces,
    ListsAssetTypes,
    ListsCampaigns,
    NamesCopies,
    NarrowsSearches,
    ReadsCampaigns,
    RenamesCopies,
    ReportsProgress,
    ShowsAccess,
    UsesAccessTokens,
]


def test_connector_declares_every_capability_that_it_has(subject: Subject) -> None:
    """The gateway uses no method outside the protocols in the class line."""
    connector: type[object] = subject.connector
    declared = {base for base in (Connector, *CAPABILITIES) if base in connector.__mro__}
    members = {name for base in declared for name in get_protocol_members(base)}
    methods = {name for name, value in vars(connector).items() if callable(value)}
    assert {name for name in methods if name[0] != "_"} <= members
    for capability in CAPABILITIES:
        assert has_all_members(connector, capability) == (capability in declared)


def has_all_members(connector: type[object], capability: type) -> bool:
    return all(hasattr(connector, name) for name in get_protocol_members(capability))


def test_input_has_the_fields_that_every_input_has(subject: Subject, copy_input: Any) -> None:
    assert {field.name for field in fields(copy_input)} >= {"account", "campaign_id"}
    assert can_be_named(copy_input) or copy_input.name is None
    assert issubclass(subject.connector.Account, AccountSettings)


def test_gateway_finds_the_connector(subject: Subject) -> None:
    """If the package is not built in, it must be installed, at least as editable."""
    assert find_connector(subject.provider) is subject.connector


def test_schema_can_have_the_connector(subject: Subject) -> None:
    """No name of a type is that of another type."""
    sdl = sdl_of(frozenset({*CONNECTORS.values(), subject.connector}))
    assert f"input {subject.connector.Input.__name__} " in sdl


@cache
def sdl_of(connectors: frozenset[type[Connector[Any]]]) -> str:
    return client_sdl({connector.provider: connector for connector in connectors})


def test_emulator_has_accounts_with_secrets_and_outcomes(subject: Subject) -> None:
    assert subject.emulator.create_emulator()
    assert subject.emulator.OUTCOMES
    for settings in subject.emulator.ACCOUNTS.values():
        table = {"provider": subject.provider, "base_url": "http://127.0.0.1:1", **settings}
        assert subject.connector.Account.model_validate(table).secrets()


def test_there_are_recordings_of_each_kind(subject: Subject) -> None:
    kinds = {path.name.partition(".")[0] for path in subject.recordings()}
    assert kinds & {"created", "accepted"}
    assert kinds >= {"rejected", "unknown"}
    for capability, kind in {
        ListsCampaigns: "search",
        ReadsCampaigns: "lookup",
        RenamesCopies: "renamed",
        ReportsProgress: "progress",
        UsesAccessTokens: "signin",
    }.items():
        assert kind in kinds or capability not in subject.connector.__mro__
    assert bool(subject.given_names) == (NamesCopies in subject.connector.__mro__)
    # It says what is documented, what was recorded and what is inferred.
    assert "Inferred" in (subject.folder / "recordings" / "README.md").read_text("utf-8")
