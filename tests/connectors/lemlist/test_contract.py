"""lemlist by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.providers.lemlist import LemlistConnector
from campaign_gateway.sandbox.emulators import lemlist
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    LemlistConnector,
    emulator=lemlist,
    folder=Path(__file__).parent,
    permissions={},
    fingerprint="e0bcc3adc41317fa05180899d46b8253cf01f7e3b0c6e0aa26fb0716db5db0a9",
    given_names={"Sale Copy": "Sale"},
)
