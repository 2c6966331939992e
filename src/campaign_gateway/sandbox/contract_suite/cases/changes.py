"""The options that a provider takes only in a call after the copy exists."""

import json
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from campaign_gateway.accounts.account import Account
from campaign_gateway.connectors.contract import (
    ProviderResponse,
    RenamesCopies,
)
from campaign_gateway.model import Created, Refused, WarningCode
from campaign_gateway.sandbox.contract_suite.calling import duplicate
from campaign_gateway.sandbox.contract_suite.fixtures import Counted
from campaign_gateway.sandbox.contract_suite.ids import HOSTILE_IDS, shown
from campaign_gateway.sandbox.contract_suite.strange_responses import try_random_responses
from campaign_gateway.sandbox.contract_suite.subject import (
    LateOptions,
    Subject,
    assert_valid_failure,
)

# A copy that every provider describes so that it can be changed.
LOOKUP = ProviderResponse(
    200,
    {},
    json.dumps(
        {
            "id": "97",
            "name": "Copy of it",
            "settings": {},
            "data": {"relationships": {"campaign-audiences": {"data": [{"id": "a1"}]}}},
        }
    ).encode(),
)


async def test_options_are_set_by_one_call_after_the_copy(
    live: Account,
    copy_input: Any,
    late_options: LateOptions,
    emulator_url: str,
    counted: Counted,
) -> None:
    copy_input = replace(copy_input, **late_options.fields)
    before = counted()["count"]
    outcome = await duplicate(live, copy_input)
    assert isinstance(outcome, Created)
    assert outcome.warnings == ()
    made = counted()
    assert made["count"] == before + 1
    # The name is set too, by whichever call.
    assert outcome.campaign.name == made["copies"][-1]["name"] == copy_input.name
    connection = HTTPConnection(urlsplit(emulator_url).netloc, timeout=10)
    connection.request(
        "GET", late_options.path.format(id=outcome.campaign.id), headers=late_options.headers
    )
    flat = dict(flattened(json.load(connection.getresponse())))
    connection.close()
    for name, value in late_options.expected.items():
        assert flat[name] == value


def flattened(value: Any) -> Any:
    """Yield each name in nested objects with its value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner
            yield from flattened(inner)


async def test_refused_option_is_a_warning_with_its_field_and_the_copy_stays_one(
    subject: Subject, live: Account, copy_input: Any, late_options: LateOptions, counted: Counted
) -> None:
    outcomes = subject.emulator.OUTCOMES
    source = "change-refused" if "change-refused" in outcomes else "rename-refused"
    copy_input = replace(copy_input, campaign_id=source, **late_options.fields)
    before = counted()
    outcome = await duplicate(live, copy_input)
    assert isinstance(outcome, Created)
    after = counted()
    assert (after["asked"], after["count"]) == (before["asked"] + 1, before["count"] + 1)
    connector: Any = live.connector
    not_applied = [each for each in outcome.warnings if each.code is WarningCode.NOT_APPLIED]
    fields = [("input", subject.provider, name) for name in connector.late_fields(copy_input)]
    assert [each.field for each in not_applied] == fields
    assert all(each.is_final and each.provider_message for each in not_applied)
    assert all(f"`{each.field[-1]}`" in each.message for each in not_applied if each.field)
    has_no_name = any(each.code is WarningCode.NAME_NOT_APPLIED for each in outcome.warnings)
    assert has_no_name == isinstance(connector, RenamesCopies)


def test_example_has_no_option_for_a_later_call(connector: Any, copy_input: Any) -> None:
    assert list(connector.late_fields(copy_input)) == []


def test_late_fields_are_those_that_are_requested(
    connector: Any, copy_input: Any, late_options: LateOptions
) -> None:
    whole = replace(copy_input, **late_options.fields)
    assert len(connector.late_fields(whole)) == len(late_options.fields)


@pytest.mark.parametrize("hostile", HOSTILE_IDS, ids=shown)
def test_hostile_id_of_a_copy_is_never_changed(
    connector: Any, copy_input: Any, late_options: LateOptions, hostile: str
) -> None:
    with pytest.raises(Refused):
        connector.build_change(replace(copy_input, **late_options.fields), hostile, LOOKUP)


def test_wrong_option_is_refused_before_there_is_a_copy(
    connector: Any, copy_input: Any, wrong_option: dict[str, Any]
) -> None:
    with pytest.raises(Refused) as refusal:
        connector.build_request(replace(copy_input, **wrong_option))
    assert refusal.value.error.field is not None


def test_options_of_every_account_are_tried(subject: Subject) -> None:
    assert subject.late_options.keys() == subject.emulator.ACCOUNTS.keys()
    assert subject.wrong_options


def test_random_response_to_a_change_never_raises(subject: Subject, connector: Any) -> None:
    def check(response: ProviderResponse) -> None:
        assert_valid_failure(connector.parse_change(response), response)

    try_random_responses(subject, check)
