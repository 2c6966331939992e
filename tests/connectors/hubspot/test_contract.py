"""HubSpot by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.contract import Grant
from campaign_gateway.connectors.providers.hubspot import HubspotConnector
from campaign_gateway.model import ErrorCode
from campaign_gateway.sandbox.emulators import hubspot
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    HubspotConnector,
    emulator=hubspot,
    folder=Path(__file__).parent,
    permissions={
        "content": (Grant.GRANTED, Grant.MISSING),
        "marketing.campaigns.read": (Grant.GRANTED, Grant.GRANTED),
        "marketing.campaigns.write": (Grant.GRANTED, Grant.MISSING),
    },
    reading_posts=["/oauth/v2/private-apps/get/access-token-info"],
    access_read=2,
    documented_refusals={423: ErrorCode.RATE_LIMITED, 477: ErrorCode.RATE_LIMITED},
    documented_success=201,
    success_changes='kind: CAMPAIGN, name: "A copy"',
    fingerprint="793ce04b670c6cfb5831bdb53fd7c91e9d20805c61a791e3e2b8cb6d0c0ece54",
)
