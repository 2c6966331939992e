"""Builds the class of cases for one connector."""

import inspect
from collections.abc import Collection
from functools import cache
from types import ModuleType
from typing import Any

import pytest

from campaign_gateway.connectors.contract import (
    ChangesCopies,
    ListsCampaigns,
    NamesCopies,
    NarrowsSearches,
    ReadsCampaigns,
    RenamesCopies,
    ReportsProgress,
    ShowsAccess,
    UsesAccessTokens,
)
from campaign_gateway.sandbox.contract_suite.cases import (
    access,
    changes,
    declarations,
    delays,
    emulated_outcomes,
    emulator_honesty,
    given_names,
    lookup,
    narrowed_search,
    progress,
    recorded_inputs,
    rename,
    requests,
    responses,
    search,
    secrets,
    tokens,
)
from campaign_gateway.sandbox.contract_suite.fixtures import Fixtures, parameters_of
from campaign_gateway.sandbox.contract_suite.subject import Subject

FOR_ALL = (
    declarations,
    delays,
    emulated_outcomes,
    emulator_honesty,
    recorded_inputs,
    requests,
    responses,
    secrets,
)
# The cases of what only some connectors can do.
FOR_CAPABILITIES: dict[type, ModuleType] = {
    ChangesCopies: changes,
    ListsCampaigns: search,
    NamesCopies: given_names,
    NarrowsSearches: narrowed_search,
    ReadsCampaigns: lookup,
    RenamesCopies: rename,
    ReportsProgress: progress,
    ShowsAccess: access,
    UsesAccessTokens: tokens,
}

# anyio leaves it behind when a deadline ends a connection before its first try.
IGNORED = "ignore:coroutine 'connect_tcp.<locals>.try_connect' was never awaited:RuntimeWarning"


def suite_for(subject: Subject) -> type:
    """Return a class that has a class with the cases of each file."""
    modules = [
        *FOR_ALL,
        *(cases for one, cases in FOR_CAPABILITIES.items() if one in subject.connector.__mro__),
    ]
    classes = dict(_class_of(module, subject) for module in modules)
    return type("TestContract", (), {**classes, "pytestmark": pytest.mark.filterwarnings(IGNORED)})


def _class_of(module: ModuleType, subject: Subject) -> tuple[str, type]:
    cases = {
        name: staticmethod(_for_asyncio(case))
        for name, case in vars(module).items()
        if name.startswith("test_") and _applies(case, subject)
    }
    words = module.__name__.rpartition(".")[2].split("_")
    name = "Test" + "".join(word.capitalize() for word in words)
    return name, type(name, (Fixtures,), {**cases, "tried": subject, "__doc__": module.__doc__})


def _applies(case: Any, subject: Subject) -> bool:
    parameters = parameters_of(subject)
    return all(parameters.get(name, "given") for name in _names_of_parameters(case))


# All connectors have the same cases.
@cache
def _names_of_parameters(case: Any) -> Collection[str]:
    return inspect.signature(case).parameters.keys()


def _for_asyncio(case: Any) -> Any:
    """Mark a coroutine, because the suite does not know the mode of pytest-asyncio."""
    return pytest.mark.asyncio(case) if inspect.iscoroutinefunction(case) else case
