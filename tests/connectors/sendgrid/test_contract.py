"""SendGrid by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.contract import Grant
from campaign_gateway.connectors.providers.sendgrid import SendgridConnector
from campaign_gateway.sandbox.contract_suite.subject import LateOptions
from campaign_gateway.sandbox.emulators import sendgrid
from campaign_gateway.testing import connector_suite

AT = "2027-03-01T09:00:00+01:00"

LIST, SEGMENT = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa", "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"

TestContract = connector_suite(
    SendgridConnector,
    emulator=sendgrid,
    folder=Path(__file__).parent,
    permissions={
        "marketing.read": (Grant.GRANTED, Grant.MISSING),
        "full access to Marketing": (Grant.NEEDS_COPY, Grant.NEEDS_COPY),
    },
    reading_posts=["/v3/marketing/singlesends/search"],
    documented_success=201,
    fingerprint="abb246deec6d0bd53200094a5fde823a4e828b4b2227d1d0febe4ccac4abf8fd",
    given_names={"Copy of Sale": "Sale", "Copy of " + "x" * 92: "x" * 100},
    late_options={
        "sendgrid": LateOptions(
            {"list_ids": [LIST], "segment_ids": [SEGMENT], "send_at": AT},
            "/v3/marketing/singlesends/{id}",
            {"authorization": "Bearer SG.sandbox-4e1b9f.0c73ad5268", "accept": "application/json"},
            {"list_ids": [LIST], "segment_ids": [SEGMENT], "send_at": AT, "status": "draft"},
        )
    },
    wrong_options=[
        {"send_at": "2027-03-01T09:00:00"},
        {"send_at": "tomorrow"},
        {"send_at": "2027-03-01T09:00:00+01:00:30"},
        {"list_ids": [LIST] * 51},
        {"segment_ids": [SEGMENT] * 11},
        {"list_ids": ["a"]},
        {"segment_ids": [f"{SEGMENT}\n"]},
    ],
)
