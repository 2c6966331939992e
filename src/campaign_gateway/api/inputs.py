"""The mutation's input: exactly one provider's."""

from dataclasses import fields, replace
from typing import Any

import strawberry

from campaign_gateway.connectors.altcraft.input import AltcraftCampaignInput
from campaign_gateway.connectors.braze.input import BrazeCampaignInput
from campaign_gateway.connectors.sonarly.input import SonarlyCampaignInput


@strawberry.input(
    one_of=True,
    description="The campaign to copy, in the terms of its provider. Give exactly one member, and "
    "give none of the others, not even as null.",
)
class DuplicateCampaignInput:
    altcraft: strawberry.Maybe[AltcraftCampaignInput] = strawberry.field(description="At Altcraft.")
    braze: strawberry.Maybe[BrazeCampaignInput] = strawberry.field(description="At Braze.")
    sonarly: strawberry.Maybe[SonarlyCampaignInput] = strawberry.field(description="At Sonarly.")

    def chosen(self) -> tuple[str, Any]:
        """The provider's name and its input, with None for what the caller left out."""
        ((provider, some),) = (
            (field.name, some) for field in fields(self) if (some := getattr(self, field.name))
        )
        campaign = some.value
        omitted = {
            field.name: None
            for field in fields(campaign)
            if getattr(campaign, field.name) is strawberry.UNSET
        }
        return provider, replace(campaign, **omitted)
