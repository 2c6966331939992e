"""What a caller says to copy a Sonarly campaign."""

import strawberry

from campaign_gateway.described import account_field


@strawberry.input(
    description="A Sonarly campaign to copy into a draft, and the audience that the draft is for."
)
class SonarlyCampaignInput:
    account: str | None = account_field("Sonarly")
    account_group_id: strawberry.ID = strawberry.field(
        description="The account group at Sonarly that the campaign and the audience belong to."
    )
    campaign_id: strawberry.ID = strawberry.field(description="The campaign's id at Sonarly.")
    audience_id: strawberry.ID = strawberry.field(
        description="The audience of the copy. It must belong to the account group."
    )
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The name of the copy; without it Sonarly chooses one. Only a copy with a name "
        "that no other campaign has can be found again when an answer is lost.",
    )
    lead_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="The leads of the audience that the copy is for. Without them, all of them.",
    )
