"""Every registered provider is in every place that lists providers, and no other is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import graphql
import pytest

import campaign_gateway
from campaign_gateway.api.schema import client_sdl
from campaign_gateway.connectors.account_settings import AccountSettings
from campaign_gateway.connectors.registry import CONNECTORS

TESTS = Path(__file__).parents[1]
PACKAGE = Path(campaign_gateway.__file__).parent


def folders_in(place: Path) -> set[str]:
    return {path.name for path in place.iterdir() if path.is_dir() and path.name[0].isalpha()}


def test_registry_has_each_connector_under_its_provider() -> None:
    assert all(name == connector.provider for name, connector in CONNECTORS.items())
    assert len({connector.title for connector in CONNECTORS.values()}) == len(CONNECTORS)


def test_published_schema_has_every_connector() -> None:
    schema = graphql.build_schema(client_sdl())
    providers, members = schema.type_map["Provider"], schema.type_map["DuplicateCampaignInput"]
    assert isinstance(providers, graphql.GraphQLEnumType)
    assert set(providers.values) == {name.upper() for name in CONNECTORS} | {"OTHER"}
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
def test_provider_is_named_only_in_its_files(provider: str) -> None:
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
    assert naming == {}


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
def test_every_connector_runs_the_contract_suite(provider: str) -> None:
    file = TESTS / "connectors" / provider / "test_contract.py"
    assert f"connector_suite(\n    {CONNECTORS[provider].__name__}," in file.read_text("utf-8")


def test_every_folder_of_connector_tests_has_a_connector() -> None:
    assert folders_in(TESTS / "connectors") == set(CONNECTORS)


def test_the_readme_has_a_row_for_every_connector() -> None:
    readme = (TESTS.parent / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| ([^|]+?) \|", readme, re.MULTILINE)
    for connector in CONNECTORS.values():
        assert connector.title in rows
