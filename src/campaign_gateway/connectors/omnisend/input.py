"""What a caller says to copy an Omnisend campaign."""

import strawberry

from campaign_gateway.described import account_field


@strawberry.input(description="An Omnisend campaign to copy, whatever its status, into a draft.")
class OmnisendCampaignInput:
    account: str | None = account_field("Omnisend")
    campaign_id: strawberry.ID = strawberry.field(
        description="The campaign's id at Omnisend (24 letters and digits)."
    )
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description='The name of the copy, of up to 250 characters. Omnisend puts "Copy of: " '
        "before the name of the source and takes this name in a second call; if that fails, the "
        "copy exists under Omnisend's own name.",
    )
