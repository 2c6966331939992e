"""What a caller says to copy a marketing email or a campaign at HubSpot."""

from enum import StrEnum
from typing import Any

import strawberry

from campaign_gateway.described import account_field, described_enum


class HubspotCampaignKind(StrEnum):
    EMAIL = "EMAIL"
    CAMPAIGN = "CAMPAIGN"


described_enum(
    HubspotCampaignKind,
    "Which of HubSpot's two calls makes the copy.",
    {
        HubspotCampaignKind.EMAIL: "A marketing email; HubSpot copies it at once.",
        HubspotCampaignKind.CAMPAIGN: "A campaign, which groups emails, pages and other assets; "
        "HubSpot tells the copy's id at once and fills the copy afterwards.",
    },
)


def _only_for_campaigns(description: str) -> Any:
    return strawberry.field(
        default=strawberry.UNSET, description=f"{description} Only for kind CAMPAIGN."
    )


@strawberry.input(description="Assets of one type that are to be copied with a HubSpot campaign.")
class HubspotAssetsInput:
    type: str = strawberry.field(
        description='What HubSpot calls the type, such as "LANDING_PAGE" or "MARKETING_EMAIL".'
    )
    ids: list[strawberry.ID] = strawberry.field(description="The assets' ids at HubSpot.")


@strawberry.input(
    description="A marketing email or a campaign at HubSpot to copy, and what the copy is to be "
    "like."
)
class HubspotCampaignInput:
    account: str | None = account_field("HubSpot")
    campaign_id: strawberry.ID = strawberry.field(
        description="The id of the email, or the GUID of the campaign, at HubSpot."
    )
    kind: HubspotCampaignKind = strawberry.field(
        default=HubspotCampaignKind.EMAIL, description="What is copied."
    )
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The name of the copy. A campaign needs one that no other campaign has; an "
        "email without one is named by HubSpot.",
    )
    language: str | None = strawberry.field(
        default=strawberry.UNSET,
        description='The language of the copied email, such as "en". Only for kind EMAIL.',
    )
    assets: list[HubspotAssetsInput] | None = _only_for_campaigns(
        "The assets that are copied too. Without them none is."
    )
    should_clone_draft_nodes: bool | None = _only_for_campaigns(
        "Whether draft nodes are copied too, as they are if this is left out."
    )
    should_clone_edges: bool | None = _only_for_campaigns(
        "Whether edges are copied too, as they are if this is left out."
    )
    should_clone_sticky_notes: bool | None = _only_for_campaigns(
        "Whether sticky notes are copied too, as they are if this is left out."
    )
    should_clone_tasks: bool | None = _only_for_campaigns(
        "Whether tasks are copied too, as they are if this is left out."
    )
    should_clone_tracking_urls: bool | None = _only_for_campaigns(
        "Whether tracking URLs are copied too, as they are if this is left out."
    )
    audience: str | None = _only_for_campaigns("The target audience of the copy.")
    currency_code: str | None = _only_for_campaigns(
        'The currency of the copy\'s budget, such as "EUR".'
    )
    notes: str | None = _only_for_campaigns("Notes on the copy.")
    start_date: str | None = _only_for_campaigns(
        'The day on which the copy starts, written as "2026-10-30".'
    )
    end_date: str | None = _only_for_campaigns(
        'The day on which the copy ends, written as "2026-11-30".'
    )
