"""Every registered provider is in every place that lists providers, and no other is."""

import importlib
import os
import re
import subprocess
import sys
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
from campaign_gateway.connectors.registry import CONNECTORS

TESTS = Path(__file__).parents[1]
PACKAGE = Path(campaign_gateway.__file__).parent


def folders_in(place: Path) -> set[str]:
    return {path.name for path in place.iterdir() if path.is_dir() and path.name[0].isalpha()}


def test_registry_has_each_connector_under_its_provider() -> None:
    assert all(name == connector.provider for name, connector in CONNECTORS.items())
    assert len({connector.title for connector in CONNECTORS.values()}) == len(CONNECTORS)


def test_input_has_one_member_per_connector() -> None:
    assert {field.name for field in fields(DuplicateCampaignInput)} == set(CONNECTORS)


def test_published_schema_has_every_connector() -> None:
    schema = graphql.build_schema(client_sdl())
    providers, members = schema.type_map["Provider"], schema.type_map["DuplicateCampaignInput"]
    assert isinstance(providers, graphql.GraphQLEnumType)
    assert set(providers.values) == {name.upper() for name in CONNECTORS}
    assert isinstance(members, graphql.GraphQLInputObjectType)
    inputs = {
        name: graphql.get_named_type(field.type).name for name, field in members.fields.items()
    }
    assert inputs == {name: connector.Input.__name__ for name, connector in CONNECTORS.items()}


@pytest.mark.parametrize("place", ["connectors/providers", "sandbox/emulators"])
def test_every_provider_has_one_file_in_each_room(place: str) -> None:
    files = {file.stem for file in (PACKAGE / place).glob("*.py")} - {"__init__"}
    assert files == set(CONNECTORS)


def test_every_connector_is_defined_in_its_provider_file() -> None:
    for name, connector in CONNECTORS.items():
        module = f"campaign_gateway.connectors.providers.{name}"
        classes = (connector, connector.Input, connector.Account)
        assert {one.__module__ for one in classes} == {module}
        assert issubclass(connector.Account, AccountSettings)


@pytest.mark.parametrize("provider", CONNECTORS)
def test_provider_is_named_only_in_its_files_and_two_lists(provider: str) -> None:
    class_name = rf"{CONNECTORS[provider].__name__[:-9]}(?![a-z])"
    # One provider has the name of an HTML element.
    anywhere = re.compile(rf"(?<!<)\b_*{provider}_*\b|{class_name}")
    # The documents of one provider can contain the name of another.
    in_a_room = re.compile(class_name)
    naming: dict[str, int] = {}
    for file in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.sql")]:
        place = file.relative_to(PACKAGE)
        spelling = in_a_room if place.parent.name in {"providers", "emulators"} else anywhere
        lines = [line for line in file.read_text("utf-8").splitlines() if spelling.search(line)]
        if lines and place.stem != provider:
            naming[place.as_posix()] = len(lines)
    # Each list has an import and an entry.
    assert naming == {"connectors/registry.py": 2, "api/inputs.py": 2}


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


@pytest.mark.parametrize("connector", CONNECTORS.values())
def test_connector_declares_every_capability_that_it_has(connector: type[object]) -> None:
    """The gateway uses no method outside the protocols in the class line."""
    declared = {base for base in (Connector, *CAPABILITIES) if base in connector.__mro__}
    members = {name for base in declared for name in get_protocol_members(base)}
    methods = {name for name, value in vars(connector).items() if callable(value)}
    assert {name for name in methods if name[0] != "_"} <= members
    for capability in CAPABILITIES:
        assert has_all_members(connector, capability) == (capability in declared)


def has_all_members(connector: type[object], capability: type) -> bool:
    return all(hasattr(connector, name) for name in get_protocol_members(capability))


HALF_A_CAPABILITY = """
from dataclasses import dataclass
from typing import final

from campaign_gateway.connectors.account_settings import AccountSettings
from campaign_gateway.connectors.contract import ListsCampaigns, ProviderRequest


@dataclass(frozen=True)
class Input:
    account: str | None
    campaign_id: str
    name: str | None


@final
class Half(ListsCampaigns[Input]):
    def build_search(self, copy_input: Input, cursor: str | None) -> ProviderRequest:
        return ProviderRequest("GET", "https://provider.example", {})
"""


def test_mypy_rejects_half_a_capability(tmp_path: Path) -> None:
    file = tmp_path / "half.py"
    file.write_text(HALF_A_CAPABILITY, "utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file=", "--no-site-packages"]
    result = subprocess.run(
        [*command, f"--cache-dir={tmp_path / 'cache'}", file],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": str(PACKAGE.parent)},
    )
    assert 'has abstract attributes "parse_search"' in result.stdout


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
    # It says what is documented, what was recorded and what is inferred.
    assert "Inferred" in (recordings / "README.md").read_text("utf-8")
    assert (TESTS / "connectors" / provider / "requests.toml").exists()


def test_every_folder_of_connector_tests_has_a_connector() -> None:
    assert folders_in(TESTS / "connectors") == set(CONNECTORS)


def test_the_readme_has_a_row_for_every_connector() -> None:
    readme = (TESTS.parent / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| ([^|]+?) \|", readme, re.MULTILINE)
    for connector in CONNECTORS.values():
        assert connector.title in rows
