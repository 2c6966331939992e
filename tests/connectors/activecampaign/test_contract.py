"""ActiveCampaign by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.providers.activecampaign import ActivecampaignConnector
from campaign_gateway.model import ErrorCode
from campaign_gateway.sandbox.emulators import activecampaign
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    ActivecampaignConnector,
    emulator=activecampaign,
    folder=Path(__file__).parent,
    # A key has no scopes, and no document names the permissions of its user.
    permissions={},
    documented_refusals={
        400: ErrorCode.PERMISSION_DENIED,
        403: ErrorCode.AUTHENTICATION_FAILED,
    },
)
