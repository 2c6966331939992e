"""The connectors: those of this package, and those that other installed packages offer.

A package offers a connector by an entry point. It is imported only if an account's `provider` names
it, or by a command that shows what is installed. No package can replace a connector of this one.
"""

import importlib
import pkgutil
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import FunctionType
from typing import Any, TypeAlias, cast

from strawberry.types.base import has_object_definition

from campaign_gateway.connectors import providers
from campaign_gateway.connectors.account_settings import AccountSettings
from campaign_gateway.connectors.contract import CONNECTOR_API, Connector

Connectors: TypeAlias = Mapping[str, type[Connector[Any]]]

# Entry points of this group are `acme = "acme_gateway:AcmeConnector"`. The name is the provider's.
GROUP = "campaign_gateway.connectors"

# GraphQL, metrics and paths contain it.
PROVIDER = r"[a-z][a-z0-9]{0,31}"

# The enum of the providers has this member for those that a gateway has no connector for.
RESERVED = {"other"}


class UnusableConnector(Exception):
    """Says why a provider's connector cannot be used, and what to do."""


def _built_in(name: str) -> type[Connector[Any]]:
    module = importlib.import_module(f"{providers.__name__}.{name}")
    return cast("type[Connector[Any]]", getattr(module, f"{name.capitalize()}Connector"))


# The connectors of this package, by the names of their files.
CONNECTORS: Connectors = {
    module.name: _built_in(module.name) for module in pkgutil.iter_modules(providers.__path__)
}


@cache
def offered() -> Mapping[str, Sequence[EntryPoint]]:
    """Return what other packages offer for each provider. Nothing of it is imported yet."""
    offers: dict[str, list[EntryPoint]] = {}
    for entry_point in entry_points(group=GROUP):
        name = entry_point.name
        if re.fullmatch(PROVIDER, name) and name not in CONNECTORS and name not in RESERVED:
            offers.setdefault(name, []).append(entry_point)
    return offers


def packages_of(names: Collection[str]) -> Mapping[str, str]:
    """Return the package and its version for each provider whose connector is not built in."""
    return {
        name: " or ".join(map(_package, offers))
        for name, offers in sorted(offered().items())
        if name in names
    }


def _package(entry_point: EntryPoint) -> str:
    distribution = entry_point.dist
    return f"{distribution.name} {distribution.version}" if distribution else entry_point.value


@cache
def find_connector(provider: str) -> type[Connector[Any]]:
    """Import a provider's connector, if that is necessary. Raises `UnusableConnector`."""
    if provider in CONNECTORS:
        return CONNECTORS[provider]
    offers = offered().get(provider, ())
    if not offers:
        known = ", ".join(sorted({*CONNECTORS, *offered()}))
        raise UnusableConnector(f"must be one of {known}")
    if len(offers) > 1:
        packages = " and ".join(map(_package, offers))
        raise UnusableConnector(f"{provider} is offered by {packages}; uninstall all but one")
    (entry_point,) = offers
    try:
        connector = entry_point.load()
    # Any error of the package, which must not stop the check of the other settings.
    except Exception as error:
        raise UnusableConnector(
            f"{provider} of {_package(entry_point)} cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    if mistake := _mistake_in(connector, provider):
        raise UnusableConnector(f"{provider} of {_package(entry_point)} {mistake}")
    return cast("type[Connector[Any]]", connector)


def _mistake_in(connector: object, provider: str) -> str | None:
    if not isinstance(connector, type) or Connector not in connector.__mro__:
        return f"is not a class with {Connector.__module__}.Connector in its class line"
    version = getattr(connector, "connector_api", None)
    if version != CONNECTOR_API:
        return (
            f"is for version {version} of the connector API, and this gateway has version "
            f"{CONNECTOR_API}; install versions of both that fit"
        )
    return _mistake_in_attributes(connector, provider)


def _mistake_in_attributes(connector: type, provider: str) -> str | None:
    if getattr(connector, "provider", None) != provider:
        return "has another name in its attribute `provider`"
    account = getattr(connector, "Account", None)
    if not isinstance(account, type) or not issubclass(account, AccountSettings):
        return "has no AccountSettings in its attribute `Account`"
    for name in ("title", "example"):
        if not isinstance(getattr(connector, name, None), str):
            return f"has no text in its attribute `{name}`"
    if missing := ", ".join(_missing_methods(connector)):
        return f"lacks what the protocols in its class line require: {missing}"
    return _mistake_in_input(getattr(connector, "Input", None), provider)


def _missing_methods(connector: type) -> Sequence[str]:
    """Return the methods that are still those of a protocol, which do nothing."""
    return [
        name
        for base in connector.__mro__
        if base.__module__ == Connector.__module__
        for name, value in vars(base).items()
        if isinstance(value, FunctionType | property) and not name.startswith("_")
        if getattr(connector, name) is value
    ]


def _mistake_in_input(input_type: Any, provider: str) -> str | None:
    if not has_object_definition(input_type) or not input_type.__strawberry_definition__.is_input:
        return "has no class with @strawberry.input in its attribute `Input`"
    names = {field.python_name for field in input_type.__strawberry_definition__.fields}
    required = ("account", "campaign_id", "name")
    if missing := [
        each for each in required if each not in names and not hasattr(input_type, each)
    ]:
        return f"has an input without {', '.join(missing)}"
    # Otherwise it could have the name of another provider's input.
    if not input_type.__strawberry_definition__.name.lower().startswith(provider):
        return f"has an input whose name does not begin with {provider.capitalize()}"
    return None


def connectors_for(names: Iterable[str]) -> Connectors:
    """Return the connectors of this package, and of the named providers.

    Raises `UnusableConnector`.
    """
    found = {name: find_connector(name) for name in {*CONNECTORS, *names}}
    return dict(sorted(found.items()))


def installed() -> tuple[Connectors, Sequence[str]]:
    """Return every connector that can be used, and why each of the others cannot."""
    usable, errors = [], []
    for name in offered():
        try:
            find_connector(name)
        except UnusableConnector as error:
            errors.append(str(error))
        else:
            usable.append(name)
    return connectors_for(usable), errors
