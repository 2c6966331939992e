"""Omnisend by the contract of all connectors."""

from pathlib import Path

from campaign_gateway.connectors.contract import Grant
from campaign_gateway.connectors.providers.omnisend import OmnisendConnector
from campaign_gateway.sandbox.contract_suite.subject import LateOptions
from campaign_gateway.sandbox.emulators import omnisend
from campaign_gateway.testing import connector_suite

AT = "2027-03-01T09:00:00+01:00"

TestContract = connector_suite(
    OmnisendConnector,
    emulator=omnisend,
    folder=Path(__file__).parent,
    permissions={
        "campaigns.read": (Grant.GRANTED, Grant.MISSING),
        "campaigns.write": (Grant.NEEDS_COPY, Grant.NEEDS_COPY),
    },
    documented_success=201,
    fingerprint="3851df77aa10d29933ae8bba75123842d172235ab211776768c7950bc037a0a1",
    given_names={"Copy of: Sale": "Sale"},
    late_options={
        "omnisend": LateOptions(
            {"subject": "Again", "included_segment_ids": ["s1"], "send_at": AT},
            "/api/campaigns/{id}",
            {
                "authorization": "Omnisend-API-Key 65f2c1d4sandbox-k3Vb9QeXn2",
                "omnisend-version": "2026-03-15",
            },
            {
                "includedSegmentIDs": ["s1"],
                "excludedSegmentIDs": [],
                "subject": "Again",
                "strategy": "scheduled",
                "scheduledAt": AT,
                "status": "draft",
            },
        )
    },
    wrong_options=[
        {"send_at": "2027-03-01T09:00:00"},
        {"send_at": "tomorrow"},
        {"send_at": "2027-03-01T09:00:00+01:00:30"},
        {"subject": ""},
        {"subject": "a\nb"},
        {"included_segment_ids": ["../x"]},
        {"included_segment_ids": []},
        {"excluded_segment_ids": ["s1"]},
        {"included_segment_ids": ["s1", "s2"], "excluded_segment_ids": ["s2"]},
    ],
)
