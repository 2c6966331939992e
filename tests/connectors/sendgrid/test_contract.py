"""SendGrid by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.contract import Grant
from campaign_gateway.connectors.providers.sendgrid import SendgridConnector
from campaign_gateway.sandbox.emulators import sendgrid
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    SendgridConnector,
    emulator=sendgrid,
    folder=Path(__file__).parent,
    permissions={
        "marketing.read": (Grant.GRANTED, Grant.MISSING),
        "full access to Marketing": (Grant.NEEDS_COPY, Grant.NEEDS_COPY),
    },
    reading_posts=["/v3/marketing/singlesends/search"],
    documented_success=201,
    fingerprint="abb246deec6d0bd53200094a5fde823a4e828b4b2227d1d0febe4ccac4abf8fd",
)
