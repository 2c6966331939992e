"""Klaviyo by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.contract import Grant
from campaign_gateway.connectors.providers.klaviyo import KlaviyoConnector
from campaign_gateway.sandbox.emulators import klaviyo
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    KlaviyoConnector,
    emulator=klaviyo,
    folder=Path(__file__).parent,
    permissions={
        "campaigns:read": (Grant.GRANTED, Grant.MISSING),
        "campaigns:write": (Grant.NEEDS_COPY, Grant.NEEDS_COPY),
    },
    documented_success=201,
    fingerprint="d0a72895936b56e01509a729810ebb2560bf10fd8585fcb1aa69756372b34c53",
)
