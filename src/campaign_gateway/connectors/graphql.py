"""GraphQL enums and fields with descriptions, for several inputs and types."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

import strawberry

AnyEnum = TypeVar("AnyEnum", bound=type[Enum])


def register_enum(
    enum: AnyEnum, description: str, values: Mapping[Any, str], name: str | None = None
) -> AnyEnum:
    """Register an enum with GraphQL. `values` has a description of every member."""
    strawberry.enum(enum, name=name, description=description)
    # strawberry adds the attribute, and its types do not show it.
    for value in enum.__strawberry_definition__.values:  # type: ignore[attr-defined]
        value.description = values[enum[value.name]]
    return enum


def optional_field(description: str) -> Any:
    """Return a field that callers can omit."""
    return strawberry.field(default=strawberry.UNSET, description=description)


def account_field(title: str) -> Any:
    """Return the field `account` of a provider's input."""
    return optional_field(
        f"The configured account to use. Omit it if there is only one {title} account."
    )


def name_field(description: str) -> Any:
    """Return the field `name` of an input whose copy is found by its name."""
    return optional_field(
        f"{description} If a response is lost, the gateway finds the copy by its name, so use one "
        "that no other campaign has."
    )
