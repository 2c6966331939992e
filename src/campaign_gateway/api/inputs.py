"""The mutation's input: the input of exactly one provider."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import strawberry

from campaign_gateway.connectors.contract import Connector, CopyInput


class DuplicateCampaignInput:
    """The input of one provider, as the member of a type that `input_type` has built."""

    def chosen(self) -> tuple[str, CopyInput]:
        """Return the provider's name and its input, with None for each omitted field."""
        ((provider, copy_input),) = ((name, value) for name, value in vars(self).items() if value)
        omitted = {
            name: None for name, value in vars(copy_input).items() if value is strawberry.UNSET
        }
        return provider, replace(copy_input, **omitted)


def input_type(connectors: Mapping[str, type[Connector[Any]]]) -> type[DuplicateCampaignInput]:
    """Return the GraphQL type, with one member for each connector."""
    members = {
        name: strawberry.field(
            default=strawberry.UNSET, description=f"Copy a campaign at {connector.title}."
        )
        for name, connector in connectors.items()
    }
    hints = {name: connector.Input | None for name, connector in connectors.items()}
    return strawberry.input(
        type(
            "DuplicateCampaignInput",
            (DuplicateCampaignInput,),
            members | {"__annotations__": hints},
        ),
        one_of=True,
        description="The campaign to copy, in the terms of its provider. Set exactly one member. "
        "Omit all others: do not set them to null.",
    )
