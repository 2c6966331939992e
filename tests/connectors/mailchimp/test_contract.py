"""Mailchimp by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.providers.mailchimp import MailchimpConnector
from campaign_gateway.sandbox.contract_suite.subject import LateOptions
from campaign_gateway.sandbox.emulators import mailchimp
from campaign_gateway.testing import connector_suite

TestContract = connector_suite(
    MailchimpConnector,
    emulator=mailchimp,
    folder=Path(__file__).parent,
    # A key allows everything.
    permissions={},
    fingerprint="933a5ba2b9d366810a9dad40c3b9367f3fba1eda8f8e934b26237d8e13c18112",
    given_names={"Sale (copy 01)": "Sale", "A (b) [c] (copy 12)": "A (b) [c]"},
    late_options={
        "mailchimp": LateOptions(
            {"subject": "Again", "list_id": "0123abcdef", "saved_segment_id": 7},
            "/3.0/campaigns/{id}",
            {"authorization": "Basic eDpzYW5kYm94LW1haWxjaGltcC03YzFlNDBkOS11czIx"},
            {
                "list_id": "0123abcdef",
                "segment_opts": {"saved_segment_id": 7},
                "subject_line": "Again",
            },
        )
    },
    wrong_options=[
        {"subject": ""},
        {"subject": "a\nb"},
        {"list_id": "a/b"},
        {"saved_segment_id": 7},
        {"list_id": "a", "saved_segment_id": 0},
    ],
)
