"""Connectors of other packages: which are imported, and the errors for those that are wrong."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import graphql
import pytest
import strawberry

from campaign_gateway.accounts.account import open_account
from campaign_gateway.api.enums import provider_named
from campaign_gateway.api.examples import mutation
from campaign_gateway.connectors import registry
from campaign_gateway.connectors.contract import CONNECTOR_API, Connector, ShowsAccess
from campaign_gateway.connectors.providers.braze import BrazeConnector
from campaign_gateway.connectors.providers.meta import MetaCampaignInput
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.sandbox.sandbox import find_emulators
from campaign_gateway.settings import Settings, SettingsError, parse_settings
from support.packages import add_acme, add_package
from support.stub_provider import StubInput


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on Python's path. What the test puts there is installed while it runs."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    monkeypatch.undo()
    forget()


def forget() -> None:
    importlib.invalidate_caches()
    registry.offered.cache_clear()
    registry.find_connector.cache_clear()


def settings_for(provider: str) -> Settings:
    account = {"provider": provider, "base_url": "https://provider.example", "api_key": "k"}
    return parse_settings({"accounts": {"main": account}}, {})


def error_for(provider: str) -> str:
    with pytest.raises(SettingsError) as failure:
        settings_for(provider)
    (error,) = failure.value.errors
    assert error.startswith("accounts.main.provider: ")
    return error.removeprefix("accounts.main.provider: ")


def test_installed_connector_is_imported_when_an_account_names_it(site: Path) -> None:
    add_acme(site)
    settings_for("braze")
    assert "acme_gateway" not in sys.modules
    settings = settings_for("acme")
    connector = registry.find_connector("acme")
    assert connector.__module__ == "acme_gateway"
    assert isinstance(open_account("main", settings.accounts["main"]).connector, connector)
    assert list(registry.connectors_for(["acme"])) == sorted({*registry.CONNECTORS, "acme"})
    assert registry.packages_of(["acme", "braze"]) == {"acme": "acme-gateway 1.0.0"}


def test_provider_without_a_connector_is_another_one_in_the_api() -> None:
    """A gateway with another package may have recorded it."""
    assert (provider_named("acme").name, provider_named("braze").name) == ("OTHER", "BRAZE")


def test_unknown_provider_is_told_what_is_installed(site: Path) -> None:
    add_acme(site)
    assert error_for("acne") == f"must be one of {', '.join(sorted({'acme', *CONNECTORS}))}"


def test_built_in_connector_cannot_be_replaced(site: Path) -> None:
    add_package(site, "evil", {"braze": "evil:Connector"}, "raise RuntimeError('imported')")
    assert registry.find_connector("braze") is BrazeConnector
    assert registry.packages_of(["braze"]) == {}
    assert registry.installed() == (registry.CONNECTORS, [])


@pytest.mark.parametrize("name", ["other", "Acme", "acme-mail", "1acme", "a" * 33, "ácme"])
def test_name_that_graphql_or_a_metric_cannot_have_is_not_offered(site: Path, name: str) -> None:
    add_package(site, "named", {name: "named:Connector"}, "")
    assert registry.offered() == {}
    assert error_for(name) == f"must be one of {', '.join(CONNECTORS)}"


def test_two_packages_with_one_name_are_refused_if_an_account_names_it(site: Path) -> None:
    add_acme(site)
    add_package(site, "acme-too", {"acme": "acme_too:Connector"}, "")
    settings_for("braze")
    error = error_for("acme")
    assert "acme-gateway 1.0.0" in error
    assert "acme-too 2.0.0" in error
    assert "uninstall all but one" in error
    assert registry.installed() == (registry.CONNECTORS, [error])


WRONG: dict[str, tuple[str, str]] = {
    "broken": ("import no_such_module", "cannot be imported: ModuleNotFoundError: No module named"),
    "without-the-name": ("", "cannot be imported: AttributeError: "),
    "no-class": ("Connector = 5", "is not a class with campaign_gateway.connectors.contract"),
    "no-connector": ("class Connector: connector_api = 1", "is not a class with "),
}


@pytest.mark.parametrize(("code", "message"), WRONG.values(), ids=WRONG)
def test_wrong_package_is_refused_with_the_cause_if_an_account_names_it(
    site: Path, code: str, message: str
) -> None:
    add_package(site, "wrong", {"wrong": "wrong:Connector"}, code)
    settings_for("braze")
    error = error_for("wrong")
    assert error.startswith(f"wrong of wrong 2.0.0 {message}")
    assert registry.installed() == (registry.CONNECTORS, [error])


@strawberry.input
class AcmeInput:
    account: str | None = None


@strawberry.input(name="SonarlyCampaignInput")
class AcmeCampaignInput:
    account: str | None = None
    campaign_id: strawberry.ID
    name: str | None = None


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "newer": (
        {"connector_api": CONNECTOR_API + 1},
        f"is for version {CONNECTOR_API + 1} of the connector API, and this gateway has version 1",
    ),
    "without-a-version": ({"connector_api": None}, "is for version None of the connector API"),
    "another-name": ({"provider": "braze"}, "has another name in its attribute `provider`"),
    "no-account": ({"Account": object}, "has no AccountSettings in its attribute `Account`"),
    "no-title": ({"title": None}, "has no text in its attribute `title`"),
    "no-parser": (
        {"parse_response": Connector.parse_response},
        "lacks what the protocols in its class line require: parse_response",
    ),
    "no-version": ({"api_version": ShowsAccess.api_version}, "lacks what the protocols in its"),
    "plain-input": ({"Input": StubInput}, "has no class with @strawberry.input in its attribute"),
    "another-input": (
        {"Input": MetaCampaignInput},
        "has an input whose name does not begin with Acme",
    ),
    "name-of-another-input": (
        {"Input": AcmeCampaignInput},
        "has an input whose name does not begin with Acme",
    ),
    "small-input": ({"Input": AcmeInput}, "has an input without campaign_id, name"),
}


@pytest.mark.parametrize(("changes", "message"), CHANGES.values(), ids=CHANGES)
def test_connector_that_does_not_fit_is_refused(
    site: Path, changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_acme(site)
    connector = importlib.import_module("acme_gateway").AcmeConnector
    for name, value in changes.items():
        monkeypatch.setattr(connector, name, value)
    assert error_for("acme").startswith(f"acme of acme-gateway 1.0.0 {message}")


@pytest.mark.parametrize("title", ["Letter-Box & Co.", "Почта", "3 Mail"])
def test_example_is_graphql_whatever_the_title(
    site: Path, title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_acme(site)
    connector = importlib.import_module("acme_gateway").AcmeConnector
    monkeypatch.setattr(connector, "title", title)
    graphql.parse(mutation(connector, "main"))


@pytest.mark.parametrize("code", ["ACCOUNTS = {}", "import no_such_module"])
def test_wrong_emulator_does_not_stop_the_others(
    site: Path, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    add_acme(site)
    (site / "acme_gateway" / "emulator.py").write_text(code, "utf-8")
    assert list(find_emulators(["acme", "braze"])) == ["braze"]
    assert "the sandbox has no emulator of acme" in caplog.text
