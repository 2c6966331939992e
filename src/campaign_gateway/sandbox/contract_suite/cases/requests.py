"""The request that every connector builds for a copy."""

from dataclasses import asdict, replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from campaign_gateway.accounts.account import Account
from campaign_gateway.connectors.contract import Connector
from campaign_gateway.model import Refused
from campaign_gateway.sandbox.contract_suite.calling import duplicate
from campaign_gateway.sandbox.contract_suite.fixtures import Counted
from campaign_gateway.sandbox.contract_suite.ids import (
    VALID_IDS,
    VALID_NUMBERS,
    hostile_inputs,
    id_fields,
    place_of,
    with_ids,
)
from campaign_gateway.sandbox.contract_suite.names import ORDINARY_NAMES
from campaign_gateway.sandbox.contract_suite.subject import (
    assert_blames,
)


def test_example_builds_a_request(connector: Connector[Any], copy_input: Any) -> None:
    request = connector.build_request(copy_input)
    assert request.method == "POST"
    assert urlsplit(request.url).hostname == "provider.example"
    assert urlsplit(request.url).path.startswith("/behind/a/path/")


def test_request_depends_on_the_input_alone(connector: Connector[Any], copy_input: Any) -> None:
    before = asdict(copy_input)
    built = [asdict(connector.build_request(copy_input)) for _ in range(3)]
    assert built[0] == built[1] == built[2]
    assert asdict(copy_input) == before


def test_hostile_ids_are_refused_with_the_name_of_their_field(
    connector: Connector[Any], copy_input: Any
) -> None:
    texts, numbers = id_fields(copy_input)
    assert texts or numbers
    for name, hostile in hostile_inputs(copy_input):
        with pytest.raises(Refused) as refusal:
            connector.build_request(hostile)
        assert_blames(refusal.value, name)


def test_valid_ids_keep_the_shape_of_the_url(connector: Connector[Any], copy_input: Any) -> None:
    usual = place_of(connector.build_request(copy_input))
    for name, changed in with_ids(copy_input, VALID_IDS, VALID_NUMBERS):
        try:
            assert place_of(connector.build_request(changed)) == usual
        except Refused:
            # An option that the example does not have may be for another kind of campaigns.
            assert getattr(copy_input, name) is None


async def test_name_arrives_unchanged_or_is_refused(
    live: Account,
    copy_input: Any,
    requested_name: str,
    counted: Counted,
) -> None:
    before, name = counted(), requested_name
    try:
        await duplicate(live, replace(copy_input, name=name))
    except Refused as refusal:
        assert_blames(refusal, "name")
        assert name not in ORDINARY_NAMES
        assert counted() == before
    else:
        after = counted()
        assert after["copies"][-1]["name"] == name
        assert after["count"] == before["count"] + 1
