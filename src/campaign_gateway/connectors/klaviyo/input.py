"""What a caller says to copy a Klaviyo campaign."""

import strawberry

from campaign_gateway.described import account_field


@strawberry.input(description="A Klaviyo campaign to copy into a draft.")
class KlaviyoCampaignInput:
    account: str | None = account_field("Klaviyo")
    campaign_id: strawberry.ID = strawberry.field(description="The campaign's id at Klaviyo.")
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The name of the copy; without it Klaviyo chooses one. Only a copy with a name "
        "that no other campaign has can be found again when an answer is lost.",
    )
