"""Altcraft by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.contract import Grant
from campaign_gateway.connectors.providers.altcraft import AltcraftConnector
from campaign_gateway.sandbox.emulators import altcraft
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    AltcraftConnector,
    emulator=altcraft,
    folder=Path(__file__).parent,
    permissions={
        "list trigger campaigns": (Grant.GRANTED, Grant.MISSING),
        "list campaigns": (Grant.GRANTED, Grant.MISSING),
        "copy campaigns": (Grant.NEEDS_COPY, Grant.NEEDS_COPY),
    },
    reading_posts=["/api/v1.1/campaigns/list", "/api/v1.1/campaigns/triggers/list/"],
    fingerprint="02c5bfd7b8f97bc229b8baac384af77c2f3d7fa062d992d984322cf1f58e10cb",
)
