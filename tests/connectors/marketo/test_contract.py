"""Marketo by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.contract import Grant
from campaign_gateway.connectors.providers.marketo import MarketoConnector
from campaign_gateway.sandbox.emulators import marketo
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    MarketoConnector,
    emulator=marketo,
    folder=Path(__file__).parent,
    permissions={"Read-Write Assets": (Grant.NEEDS_COPY, Grant.MISSING)},
    fingerprint="653c3db191ae71bd33d44b1f62a1337af670af32634fe788650834c30406deff",
)
