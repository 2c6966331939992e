"""What a caller says to copy an Altcraft campaign."""

from enum import StrEnum

import strawberry

from campaign_gateway.described import account_field, described_enum


class AltcraftCampaignKind(StrEnum):
    TRIGGER = "TRIGGER"
    CAMPAIGN = "CAMPAIGN"


described_enum(
    AltcraftCampaignKind,
    "Which of Altcraft's two methods copies the campaign.",
    {
        AltcraftCampaignKind.TRIGGER: "A trigger campaign (method campaigns/triggers/clone).",
        AltcraftCampaignKind.CAMPAIGN: "Any other campaign, such as a broadcast or a regular one, "
        "which Altcraft has called a mailing since version 74 (method campaigns/clone).",
    },
)


@strawberry.input(description="An Altcraft campaign to copy, and what the copy is to be like.")
class AltcraftCampaignInput:
    account: str | None = account_field("Altcraft")
    campaign_id: int = strawberry.field(description="The campaign's number at Altcraft.")
    kind: AltcraftCampaignKind = strawberry.field(
        default=AltcraftCampaignKind.TRIGGER, description="What kind of campaign it is."
    )
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description='The name of the copy. Without it Altcraft calls it "Clone of ...".',
    )
    is_active: bool | None = strawberry.field(
        default=strawberry.UNSET,
        description="True: the copied trigger reacts to live events at once, so it may send. Left "
        "out or false: it does not. Only for kind TRIGGER; Altcraft has no such choice for others.",
    )
