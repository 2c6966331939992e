"""The options that a provider takes only in a call after the copy exists."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings

from campaign_gateway.accounts.account import Account
from campaign_gateway.connectors.contract import (
    ChangesCopies,
    ProviderResponse,
    RenamesCopies,
)
from campaign_gateway.model import Created, Outcome, Refused, WarningCode
from support.connectors import accounts_with, as_id, assert_valid, connect, emulator_of, example_of
from support.ids import HOSTILE_IDS, shown
from support.responses import respond
from support.strange_responses import RANDOM

AT = "2027-03-01T09:00:00+01:00"
LIST, SEGMENT = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa", "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"

# A copy that every provider describes so that it can be changed.
LOOKUP = respond(
    200,
    {
        "id": "97",
        "name": "Copy of it",
        "settings": {},
        "data": {"relationships": {"campaign-audiences": {"data": [{"id": "a1"}]}}},
    },
)


@dataclass(frozen=True)
class Case:
    """The options of one account: as they are requested, and where the emulator then has them."""

    fields: dict[str, Any]
    path: str
    expected: dict[str, Any]
    headers: dict[str, str]


CASES = {
    ("klaviyo", "klaviyo"): Case(
        {"included_audience_ids": ["L1", "L2"], "excluded_audience_ids": ["S1"]},
        "/api/campaigns/{id}",
        {},
        {"authorization": "Klaviyo-API-Key pk_sandbox_6d0c94e1f27a583b", "revision": "2026-07-15"},
    ),
    ("klaviyo", "klaviyo-before-definitions"): Case(
        {"included_audience_ids": ["L1", "L2"], "excluded_audience_ids": ["S1"], "send_at": AT},
        "/api/campaigns/{id}",
        {"send_strategy": {"method": "static", "datetime": AT}},
        {"authorization": "Klaviyo-API-Key pk_sandbox_6d0c94e1f27a583b", "revision": "2026-07-15"},
    ),
    ("mailchimp", "mailchimp"): Case(
        {"subject": "Again", "list_id": "0123abcdef", "saved_segment_id": 7},
        "/3.0/campaigns/{id}",
        {"list_id": "0123abcdef", "segment_opts": {"saved_segment_id": 7}, "subject_line": "Again"},
        {"authorization": "Basic eDpzYW5kYm94LW1haWxjaGltcC03YzFlNDBkOS11czIx"},
    ),
    ("omnisend", "omnisend"): Case(
        {"subject": "Again", "included_segment_ids": ["s1"], "send_at": AT},
        "/api/campaigns/{id}",
        {"includedSegmentIDs": ["s1"], "excludedSegmentIDs": [], "subject": "Again"}
        | {"strategy": "scheduled", "scheduledAt": AT, "status": "draft"},
        {
            "authorization": "Omnisend-API-Key 65f2c1d4sandbox-k3Vb9QeXn2",
            "omnisend-version": "2026-03-15",
        },
    ),
    ("sendgrid", "sendgrid"): Case(
        {"list_ids": [LIST], "segment_ids": [SEGMENT], "send_at": AT},
        "/v3/marketing/singlesends/{id}",
        {"list_ids": [LIST], "segment_ids": [SEGMENT], "send_at": AT, "status": "draft"},
        {"authorization": "Bearer SG.sandbox-4e1b9f.0c73ad5268", "accept": "application/json"},
    ),
}


@pytest.fixture(scope="module", params=accounts_with(ChangesCopies), ids=as_id)
def account(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def changing(account: tuple[str, str]) -> Any:
    return connect(*account)


@pytest.fixture(scope="module")
def case(account: tuple[str, str]) -> Case:
    return CASES[account]


async def test_options_are_set_by_one_call_after_the_copy(
    account: tuple[str, str],
    live: Account,
    case: Case,
    duplicate: Callable[[Account, Any], Awaitable[Outcome]],
    emulator_url: Callable[[str], str],
    counted: Callable[[str], dict[str, Any]],
) -> None:
    copy_input = replace(example_of(account[0]), **case.fields)
    before = counted(account[0])["count"]
    outcome = await duplicate(live, copy_input)
    assert isinstance(outcome, Created)
    assert outcome.warnings == ()
    made = counted(account[0])
    assert made["count"] == before + 1
    # The name is set too, by whichever call.
    assert outcome.campaign.name == made["copies"][-1]["name"] == copy_input.name
    connection = HTTPConnection(urlsplit(emulator_url(account[0])).netloc, timeout=10)
    connection.request("GET", case.path.format(id=outcome.campaign.id), headers=case.headers)
    flat = dict(flattened(json.load(connection.getresponse())))
    connection.close()
    for name, value in case.expected.items():
        assert flat[name] == value
    if "included_audience_ids" in case.fields:
        assert (flat["included"], flat["excluded"]) == (["L1", "L2"], ["S1"])


def flattened(value: Any) -> Any:
    """Yield each name in nested objects with its value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner
            yield from flattened(inner)


async def test_refused_option_is_a_warning_with_its_field_and_the_copy_stays_one(
    account: tuple[str, str],
    live: Account,
    case: Case,
    duplicate: Callable[[Account, Any], Awaitable[Outcome]],
    counted: Callable[[str], dict[str, Any]],
) -> None:
    provider = account[0]
    outcomes = emulator_of(provider).OUTCOMES
    source = "change-refused" if "change-refused" in outcomes else "rename-refused"
    copy_input = replace(example_of(provider), campaign_id=source, **case.fields)
    before = counted(provider)
    outcome = await duplicate(live, copy_input)
    assert isinstance(outcome, Created)
    after = counted(provider)
    assert (after["asked"], after["count"]) == (before["asked"] + 1, before["count"] + 1)
    connector: Any = live.connector
    not_applied = [each for each in outcome.warnings if each.code is WarningCode.NOT_APPLIED]
    fields = [("input", provider, name) for name in connector.late_fields(copy_input)]
    assert [each.field for each in not_applied] == fields
    assert all(each.is_final and each.provider_message for each in not_applied)
    assert all(f"`{each.field[-1]}`" in each.message for each in not_applied if each.field)
    has_no_name = any(each.code is WarningCode.NAME_NOT_APPLIED for each in outcome.warnings)
    assert has_no_name == isinstance(connector, RenamesCopies)


def test_example_has_no_option_for_a_later_call(changing: Any, copy_input: Any) -> None:
    assert list(changing.late_fields(copy_input)) == []


def test_late_fields_are_those_that_are_requested(
    changing: Any, copy_input: Any, case: Case
) -> None:
    whole = replace(copy_input, **case.fields)
    assert len(changing.late_fields(whole)) == len(case.fields)


@pytest.mark.parametrize("hostile", HOSTILE_IDS, ids=shown)
def test_hostile_id_of_a_copy_is_never_changed(
    changing: Any, copy_input: Any, case: Case, hostile: str
) -> None:
    with pytest.raises(Refused):
        changing.build_change(replace(copy_input, **case.fields), hostile, LOOKUP)


WRONG: list[dict[str, Any]] = [
    {"send_at": "2027-03-01T09:00:00"},
    {"send_at": "tomorrow"},
    {"subject": ""},
    {"subject": "a\nb"},
    {"included_segment_ids": ["../x"]},
    {"included_segment_ids": []},
    {"excluded_segment_ids": ["s1"]},
    {"included_audience_ids": []},
    {"excluded_audience_ids": ["s1"]},
    {"list_id": "a/b"},
    {"saved_segment_id": 7},
    {"list_id": "a", "saved_segment_id": 0},
    {"list_ids": ["a"] * 51},
    {"segment_ids": ["a"] * 11},
]
WRONG_AT = [
    pytest.param(each, wrong, id=f"{each[1]} {number}")
    for each in CASES
    for number, wrong in enumerate(WRONG)
    if wrong.keys() <= vars(example_of(each[0])).keys()
]


@pytest.mark.parametrize(("at", "wrong"), WRONG_AT)
def test_wrong_option_is_refused_before_there_is_a_copy(
    at: tuple[str, str], wrong: dict[str, Any]
) -> None:
    with pytest.raises(Refused) as refusal:
        connect(*at).build_request(replace(example_of(at[0]), **wrong))
    assert refusal.value.error.field is not None


def test_every_account_and_every_wrong_option_is_tried() -> None:
    assert CASES.keys() == set(accounts_with(ChangesCopies))
    tried = [param.values[1] for param in WRONG_AT]
    assert all(wrong in tried for wrong in WRONG)


@settings(max_examples=100, deadline=None)
@given(response=RANDOM)
def test_random_response_to_a_change_never_raises(
    changing: Any, response: ProviderResponse
) -> None:
    failure = changing.parse_change(response)
    if failure is None:
        assert response.is_success
        assert response.complete
    else:
        assert_valid(failure)


def test_time_cannot_be_set_where_klaviyo_has_it_in_the_messages() -> None:
    connector = connect("klaviyo", "klaviyo")
    with pytest.raises(Refused, match="revision before 2026-10-15"):
        connector.build_request(replace(example_of("klaviyo"), send_at=AT))


@pytest.mark.parametrize("ids", [[], ["a1", "a2"], [None]], ids=str)
def test_audience_is_not_changed_unless_it_is_the_only_one(ids: list[str | None]) -> None:
    connector: Any = connect("klaviyo", "klaviyo")
    audiences = {"campaign-audiences": {"data": [{"id": each} for each in ids]}}
    lookup = respond(200, {"data": {"relationships": audiences}})
    wanted = replace(example_of("klaviyo"), included_audience_ids=["L1"])
    for response in (lookup, None):
        with pytest.raises(Refused, match="exactly one audience"):
            connector.build_change(wanted, "97", response)
