"""Meta by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.contract import Grant
from campaign_gateway.connectors.providers.meta import MetaConnector
from campaign_gateway.sandbox.emulators import meta
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    MetaConnector,
    emulator=meta,
    folder=Path(__file__).parent,
    permissions={"ads_management": (Grant.GRANTED, Grant.MISSING)},
    fingerprint="126a49b889e1997b8fd93bb5f61606d01f37b16c3f5df79d5acffa7d7428a555",
)
