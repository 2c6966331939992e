"""dotdigital by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.providers.dotdigital import DotdigitalConnector
from campaign_gateway.sandbox.emulators import dotdigital
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    DotdigitalConnector,
    emulator=dotdigital,
    folder=Path(__file__).parent,
    # The documents that were read have no read to check an account with.
    permissions={},
    documented_success=201,
)
