"""The connectors: those of this package, and those that other packages offer."""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from campaign_gateway.connectors import providers
from campaign_gateway.connectors.contract import Connector

Connectors: TypeAlias = Mapping[str, type[Connector[Any]]]


def _built_in(name: str) -> type[Connector[Any]]:
    module = importlib.import_module(f"{providers.__name__}.{name}")
    return cast("type[Connector[Any]]", getattr(module, f"{name.capitalize()}Connector"))


# The connectors of this package, by the names of their files.
CONNECTORS: Connectors = {
    module.name: _built_in(module.name) for module in pkgutil.iter_modules(providers.__path__)
}
