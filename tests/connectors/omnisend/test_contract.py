"""Omnisend by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.contract import Grant
from campaign_gateway.connectors.providers.omnisend import OmnisendConnector
from campaign_gateway.sandbox.emulators import omnisend
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    OmnisendConnector,
    emulator=omnisend,
    folder=Path(__file__).parent,
    permissions={
        "campaigns.read": (Grant.GRANTED, Grant.MISSING),
        "campaigns.write": (Grant.NEEDS_COPY, Grant.NEEDS_COPY),
    },
    documented_success=201,
    fingerprint="3851df77aa10d29933ae8bba75123842d172235ab211776768c7950bc037a0a1",
)
