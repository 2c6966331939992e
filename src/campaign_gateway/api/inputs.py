"""The mutation's input: the input of exactly one provider."""

from dataclasses import replace
from typing import Any

import strawberry

from campaign_gateway.connectors.contract import CopyInput
from campaign_gateway.connectors.providers.altcraft import AltcraftCampaignInput
from campaign_gateway.connectors.providers.braze import BrazeCampaignInput
from campaign_gateway.connectors.providers.hubspot import HubspotCampaignInput
from campaign_gateway.connectors.providers.klaviyo import KlaviyoCampaignInput
from campaign_gateway.connectors.providers.mailchimp import MailchimpCampaignInput
from campaign_gateway.connectors.providers.marketo import MarketoCampaignInput
from campaign_gateway.connectors.providers.meta import MetaCampaignInput
from campaign_gateway.connectors.providers.omnisend import OmnisendCampaignInput
from campaign_gateway.connectors.providers.sendgrid import SendgridCampaignInput
from campaign_gateway.connectors.providers.sonarly import SonarlyCampaignInput


def member(title: str) -> Any:
    return strawberry.field(default=strawberry.UNSET, description=f"Copy a campaign at {title}.")


@strawberry.input(
    one_of=True,
    description="The campaign to copy, in the terms of its provider. Set exactly one member. Omit "
    "all others: do not set them to null.",
)
class DuplicateCampaignInput:
    altcraft: AltcraftCampaignInput | None = member("Altcraft")
    braze: BrazeCampaignInput | None = member("Braze")
    hubspot: HubspotCampaignInput | None = member("HubSpot")
    klaviyo: KlaviyoCampaignInput | None = member("Klaviyo")
    mailchimp: MailchimpCampaignInput | None = member("Mailchimp")
    marketo: MarketoCampaignInput | None = member("Marketo")
    meta: MetaCampaignInput | None = member("Meta Ads")
    omnisend: OmnisendCampaignInput | None = member("Omnisend")
    sendgrid: SendgridCampaignInput | None = member("SendGrid")
    sonarly: SonarlyCampaignInput | None = member("Sonarly")

    def chosen(self) -> tuple[str, CopyInput]:
        """Return the provider's name and its input, with None for each omitted field."""
        ((provider, copy_input),) = ((name, value) for name, value in vars(self).items() if value)
        omitted = {
            name: None for name, value in vars(copy_input).items() if value is strawberry.UNSET
        }
        return provider, replace(copy_input, **omitted)
