"""What a caller says to copy a Mailchimp campaign."""

import strawberry

from campaign_gateway.described import account_field


@strawberry.input(description="A Mailchimp campaign to replicate; the copy is a draft.")
class MailchimpCampaignInput:
    account: str | None = account_field("Mailchimp")
    campaign_id: strawberry.ID = strawberry.field(
        description="The campaign's id at Mailchimp (10 letters and digits, not the number in the "
        "web application's address). Only a campaign that is saved or sent can be copied."
    )
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The title of the copy. Mailchimp names a copy itself and takes this in a "
        "second call; if that fails, the copy exists under Mailchimp's own title.",
    )
