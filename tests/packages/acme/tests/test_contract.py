"""Acme Mail by the contract of all connectors."""

from pathlib import Path

from acme_gateway import AcmeConnector, emulator

from campaign_gateway.connectors.contract import Grant
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    AcmeConnector,
    emulator=emulator,
    folder=Path(__file__).parent,
    permissions={
        "campaigns.read": (Grant.GRANTED, Grant.MISSING),
        "campaigns.write": (Grant.NEEDS_COPY, Grant.NEEDS_COPY),
    },
    documented_success=201,
)
