"""Sonarly by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.contract import Grant
from campaign_gateway.connectors.providers.sonarly import SonarlyConnector
from campaign_gateway.sandbox.emulators import sonarly
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    SonarlyConnector,
    emulator=sonarly,
    folder=Path(__file__).parent,
    permissions={
        "campaigns:read": (Grant.GRANTED, Grant.MISSING),
        "campaigns:write": (Grant.NEEDS_COPY, Grant.NEEDS_COPY),
    },
    documented_success=201,
    fingerprint="9f910f24ae5ce0352878a4b9ca7ef3ee74ab24fbb5e6c50569198d51a260dce3",
)
