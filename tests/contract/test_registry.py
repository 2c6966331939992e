"""A provider that is registered is known everywhere, and nothing else is."""

import importlib
import re
from dataclasses import fields
from pathlib import Path

import graphql
import pytest
from typing_extensions import get_protocol_members

import campaign_gateway
from campaign_gateway.api.inputs import DuplicateCampaignInput
from campaign_gateway.api.schema import client_sdl
from campaign_gateway.connectors.account_settings import AccountSettings
from campaign_gateway.connectors.contract import (
    ListsCampaigns,
    ReadsCampaigns,
    RenamesCopies,
    ReportsProgress,
    UsesAccessTokens,
)
from campaign_gateway.connectors.registry import CONNECTORS

TESTS = Path(__file__).parents[1]
PACKAGE = Path(campaign_gateway.__file__).parent


def folders_in(place: Path) -> set[str]:
    return {path.name for path in place.iterdir() if path.is_dir() and path.name[0].isalpha()}


def test_the_registry_names_each_connector_as_it_names_itself() -> None:
    assert {name: each.provider for name, each in CONNECTORS.items()} == {
        name: name for name in CONNECTORS
    }
    assert len({each.title for each in CONNECTORS.values()}) == len(CONNECTORS)


def test_every_connector_is_a_member_of_the_input() -> None:
    assert {each.name for each in fields(DuplicateCampaignInput)} == set(CONNECTORS)


def test_every_connector_is_in_the_schema_that_clients_see() -> None:
    schema = graphql.build_schema(client_sdl())
    providers, members = schema.type_map["Provider"], schema.type_map["DuplicateCampaignInput"]
    assert isinstance(providers, graphql.GraphQLEnumType)
    assert set(providers.values) == {name.upper() for name in CONNECTORS}
    assert isinstance(members, graphql.GraphQLInputObjectType)
    inputs = {name: graphql.get_named_type(each.type).name for name, each in members.fields.items()}
    assert inputs == {name: each.Input.__name__ for name, each in CONNECTORS.items()}


@pytest.mark.parametrize("place", ["connectors/providers", "sandbox/emulators"])
def test_every_provider_is_one_file_of_each_room(place: str) -> None:
    files = {each.stem for each in (PACKAGE / place).glob("*.py")} - {"__init__"}
    assert files == set(CONNECTORS)


def test_every_connector_is_defined_in_its_provider_file() -> None:
    for name, each in CONNECTORS.items():
        module = f"campaign_gateway.connectors.providers.{name}"
        assert each.__module__ == each.Input.__module__ == each.Account.__module__ == module
        assert issubclass(each.Account, AccountSettings)


@pytest.mark.parametrize("provider", CONNECTORS)
def test_no_provider_is_named_outside_its_room_but_in_two_lists(provider: str) -> None:
    class_name = rf"{CONNECTORS[provider].__name__[:-9]}(?![a-z])"
    # One may be called like an element of HTML.
    anywhere = re.compile(rf"(?<!<)\b_*{provider}_*\b|{class_name}")
    # The documents of one provider may have a word that is another's name.
    in_a_room = re.compile(class_name)
    naming: dict[str, int] = {}
    for file in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.sql")]:
        place = file.relative_to(PACKAGE)
        spelling = in_a_room if place.parent.name in {"providers", "emulators"} else anywhere
        lines = [line for line in file.read_text("utf-8").splitlines() if spelling.search(line)]
        if lines and place.stem != provider:
            naming[place.as_posix()] = len(lines)
    # An import and an entry in each.
    assert naming == {"connectors/registry.py": 2, "api/inputs.py": 2}


@pytest.mark.parametrize("connector", CONNECTORS.values())
def test_no_connector_has_half_of_what_the_gateway_looks_for(connector: type[object]) -> None:
    """What lacks a part of one of these is not seen to be one, and nobody would notice."""
    wholes: dict[str, type] = {
        "build_search": ListsCampaigns,
        "build_lookup": ReadsCampaigns,
        "build_rename": RenamesCopies,
        "build_progress": ReportsProgress,
        "build_token_request": UsesAccessTokens,
    }
    for part, whole in wholes.items():
        assert hasattr(connector, part) == all(
            hasattr(connector, each) for each in get_protocol_members(whole)
        )


@pytest.mark.parametrize("provider", CONNECTORS)
def test_every_connector_has_an_emulator(provider: str) -> None:
    emulator = importlib.import_module(f"campaign_gateway.sandbox.emulators.{provider}")
    assert emulator.create_emulator()
    assert emulator.OUTCOMES
    for fields_of_account in emulator.ACCOUNTS.values():
        table = {"provider": provider, "base_url": "http://127.0.0.1:1", **fields_of_account}
        assert CONNECTORS[provider].Account.model_validate(table).secrets()


@pytest.mark.parametrize("provider", CONNECTORS)
def test_every_connector_has_recordings_of_each_kind(provider: str) -> None:
    recordings = TESTS / "connectors" / provider / "recordings"
    kinds = {path.name.partition(".")[0] for path in recordings.glob("*.http")}
    assert kinds & {"created", "accepted"}
    assert kinds >= {"rejected", "unknown"}
    # What is documented, what was recorded and what is inferred stands there.
    assert "Inferred" in (recordings / "README.md").read_text("utf-8")
    assert (TESTS / "connectors" / provider / "requests.toml").exists()


def test_no_tests_are_left_of_a_provider_that_is_gone() -> None:
    assert folders_in(TESTS / "connectors") == set(CONNECTORS)


def test_the_readme_has_a_row_for_every_connector() -> None:
    readme = (TESTS.parent / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| ([^|]+?) \|", readme, re.MULTILINE)
    for connector in CONNECTORS.values():
        assert connector.title in rows
