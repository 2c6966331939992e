"""Braze by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.contract import Grant
from campaign_gateway.connectors.providers.braze import BrazeConnector
from campaign_gateway.sandbox.emulators import braze
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    BrazeConnector,
    emulator=braze,
    folder=Path(__file__).parent,
    permissions={
        "campaigns.list": (Grant.GRANTED, Grant.GRANTED),
        "campaigns.details": (Grant.GRANTED, Grant.MISSING),
        "campaigns.duplicate": (Grant.NEEDS_COPY, Grant.NEEDS_COPY),
        "canvas.list": (Grant.NOT_CHECKED, Grant.NOT_CHECKED),
        "canvas.details": (Grant.NOT_CHECKED, Grant.NOT_CHECKED),
        "canvas.duplicate": (Grant.NEEDS_COPY, Grant.NEEDS_COPY),
    },
    documented_success=202,
    fingerprint="25d7c7c3002a2b4f195d1f39b0feff85caaa613012ca6a06879c4a57cd183aac",
)
