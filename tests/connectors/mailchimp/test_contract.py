"""Mailchimp by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.providers.mailchimp import MailchimpConnector
from campaign_gateway.sandbox.emulators import mailchimp
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    MailchimpConnector,
    emulator=mailchimp,
    folder=Path(__file__).parent,
    # A key allows everything.
    permissions={},
    fingerprint="933a5ba2b9d366810a9dad40c3b9367f3fba1eda8f8e934b26237d8e13c18112",
)
