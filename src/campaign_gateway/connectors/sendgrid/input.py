"""What a caller says to copy a SendGrid Single Send."""

import strawberry

from campaign_gateway.described import account_field


@strawberry.input(description="A SendGrid Single Send to copy.")
class SendgridCampaignInput:
    account: str | None = account_field("SendGrid")
    campaign_id: strawberry.ID = strawberry.field(description="The Single Send's id at SendGrid.")
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The name of the copy, of up to 100 characters; without it SendGrid puts "
        '"Copy of" before the name of the source. Only a copy with a name that no other campaign '
        "has can be found again when an answer is lost.",
    )
