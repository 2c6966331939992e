"""Klaviyo by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.contract import Grant
from campaign_gateway.connectors.providers.klaviyo import KlaviyoConnector
from campaign_gateway.sandbox.contract_suite.subject import LateOptions
from campaign_gateway.sandbox.emulators import klaviyo
from campaign_gateway.testing import connector_suite

AT = "2027-03-01T09:00:00+01:00"

READ = {
    "authorization": "Klaviyo-API-Key pk_sandbox_6d0c94e1f27a583b",
    "revision": "2026-07-15",
}

TestContract = connector_suite(
    KlaviyoConnector,
    emulator=klaviyo,
    folder=Path(__file__).parent,
    permissions={
        "campaigns:read": (Grant.GRANTED, Grant.MISSING),
        "campaigns:write": (Grant.NEEDS_COPY, Grant.NEEDS_COPY),
    },
    documented_success=201,
    fingerprint="d0a72895936b56e01509a729810ebb2560bf10fd8585fcb1aa69756372b34c53",
    given_names={"Copy of Sale": "Sale"},
    late_options={
        "klaviyo": LateOptions(
            {"included_audience_ids": ["L1", "L2"], "excluded_audience_ids": ["S1"]},
            "/api/campaigns/{id}",
            READ,
            {"included": ["L1", "L2"], "excluded": ["S1"]},
        ),
        "klaviyo-before-definitions": LateOptions(
            {
                "included_audience_ids": ["L1", "L2"],
                "excluded_audience_ids": ["S1"],
                "send_at": AT,
            },
            "/api/campaigns/{id}",
            READ,
            {
                "included": ["L1", "L2"],
                "excluded": ["S1"],
                "send_strategy": {"method": "static", "datetime": AT},
            },
        ),
    },
    wrong_options=[
        {"send_at": "2027-03-01T09:00:00"},
        {"send_at": "tomorrow"},
        {"send_at": "2027-03-01T09:00:00+01:00:30"},
        {"included_audience_ids": []},
        {"excluded_audience_ids": ["s1"]},
    ],
)
