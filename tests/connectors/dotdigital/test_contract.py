"""dotdigital by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.providers.dotdigital import DotdigitalConnector
from campaign_gateway.model import ErrorCode
from campaign_gateway.sandbox.emulators import dotdigital
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    DotdigitalConnector,
    emulator=dotdigital,
    folder=Path(__file__).parent,
    # API users have no permissions of their own.
    permissions={},
    documented_success=201,
    documented_refusals={403: ErrorCode.AUTHENTICATION_FAILED},
    given_names={"Copy of New product promotion 2": "New product promotion 2"},
)
