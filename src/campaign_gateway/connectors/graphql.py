"""Described pieces of GraphQL that several inputs and types share."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

import strawberry

AnyEnum = TypeVar("AnyEnum", bound=type[Enum])


def described_enum(
    enum: AnyEnum, description: str, values: Mapping[Any, str], name: str | None = None
) -> AnyEnum:
    """Registers an enum that itself knows nothing of GraphQL. Every value needs a description."""
    strawberry.enum(enum, name=name, description=description)
    for value in enum.__strawberry_definition__.values:  # type: ignore[attr-defined]
        value.description = values[enum[value.name]]
    return enum


def account_field(title: str) -> Any:
    """The `account` of a provider's input."""
    return strawberry.field(
        default=strawberry.UNSET,
        description=f"The configured account to use. May be left out when it is the only {title} "
        "one.",
    )
