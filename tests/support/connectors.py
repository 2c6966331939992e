"""The emulators of all built-in connectors."""

import importlib
from types import ModuleType

from campaign_gateway.connectors.registry import CONNECTORS


def emulator_of(provider: str) -> ModuleType:
    return importlib.import_module(f"campaign_gateway.sandbox.emulators.{provider}")


# Every account that an emulator accepts, as provider and name. A provider can have several
# accounts, for example one per format.
ACCOUNTS = [(provider, name) for provider in CONNECTORS for name in emulator_of(provider).ACCOUNTS]
