"""What a caller says to copy a Braze campaign."""

import strawberry

from campaign_gateway.described import account_field


@strawberry.input(description="A Braze campaign to copy, and how the copy is to be called.")
class BrazeCampaignInput:
    account: str | None = account_field("Braze")
    campaign_id: strawberry.ID = strawberry.field(
        description="The campaign's API identifier at Braze."
    )
    name: str = strawberry.field(
        description="The name of the copy. A name that no other campaign has lets the gateway find "
        "the copy: Braze answers before it exists and does not tell its id."
    )
    description: str | None = strawberry.field(
        default=strawberry.UNSET, description="The description of the copy."
    )
    tag_names: list[str] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Tags of the copy, in place of the source's. They must exist at Braze.",
    )
