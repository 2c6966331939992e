"""Instantly by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.contract import Grant
from campaign_gateway.connectors.providers.instantly import InstantlyConnector
from campaign_gateway.sandbox.emulators import instantly
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    InstantlyConnector,
    emulator=instantly,
    folder=Path(__file__).parent,
    permissions={
        "campaigns:read": (Grant.GRANTED, Grant.MISSING),
        "campaigns:create": (Grant.NEEDS_COPY, Grant.NEEDS_COPY),
    },
    fingerprint="b34b20aba88c359f6b9b771870e2de95958bc4065def7b3f0ba6c77428b36627",
    given_names={"Sale (copy)": "Sale"},
)
