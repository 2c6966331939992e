"""What is peculiar to Meta Ads: an answer of ids, a name by a second call, codes of its own."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from pydantic import ValidationError
from starlette.types import ASGIApp
from strawberry import ID

from campaign_gateway.accounts import Account
from campaign_gateway.connectors.contract import (
    ProviderRequest,
    UnexpectedResponse,
)
from campaign_gateway.connectors.providers import meta as module
from campaign_gateway.connectors.providers.meta import (
    MetaAccount,
    MetaCampaignInput,
    MetaConnector,
    MetaRenameStrategy,
    MetaStatusOption,
)
from campaign_gateway.model import (
    Campaign,
    CampaignStatus,
    Created,
    ErrorCode,
    Outcome,
    Refused,
    Rejected,
    Unknown,
    WarningCode,
)
from campaign_gateway.sandbox.emulators.meta import ACCESS_TOKEN, create_emulator
from support.responses import respond

Duplicate = Callable[[Account, Any], Awaitable[Outcome]]

SETTINGS = {"provider": "meta", "access_token": "EAAtoken"}
CONNECTOR = MetaConnector(MetaAccount.model_validate(SETTINGS))
CAMPAIGN = MetaCampaignInput(
    account=None,
    campaign_id=ID("101"),
    name=None,
    status_option=MetaStatusOption.PAUSED,
    deep_copy=False,
    rename_strategy=None,
    rename_prefix=None,
    rename_suffix=None,
)
COPY = {
    "id": "301",
    "name": "A copy",
    "status": "PAUSED",
    "effective_status": "PAUSED",
    "created_time": "2026-05-01T12:00:00-0700",
    "updated_time": "2026-05-01T12:00:02-0700",
    "source_campaign_id": "101",
}


def sent(**changes: Any) -> dict[str, str]:
    return form_of(CONNECTOR.build_request(replace(CAMPAIGN, **changes)))


def form_of(request: ProviderRequest) -> dict[str, str]:
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    return dict(parse_qsl(request.body.decode(), strict_parsing=True))


def read(status: int, body: object, **headers: str) -> Outcome:
    return CONNECTOR.parse_response(CAMPAIGN, respond(status, body, **headers))


def failed(status: int, code: object, subcode: int | None = None, **more: object) -> Outcome:
    error = {"message": "no", "code": code, **more}
    if subcode is not None:
        error["error_subcode"] = subcode
    return read(status, {"error": error})


def looked_up(status: int, body: object) -> Campaign | None:
    return CONNECTOR.parse_lookup(respond(status, body), "301")


# Requests


def test_the_version_and_the_id_go_into_the_path_and_the_token_into_a_header() -> None:
    request = CONNECTOR.build_request(CAMPAIGN)
    assert request.method == "POST"
    assert request.url == "https://graph.facebook.com/v26.0/101/copies"
    assert request.headers["authorization"] == "Bearer EAAtoken"


def test_another_version_of_the_api_can_be_set() -> None:
    settings = {**SETTINGS, "version": "v27.0", "base_url": "https://meta.example/graph"}
    request = MetaConnector(MetaAccount.model_validate(settings)).build_lookup("301", None)
    assert request.url.startswith("https://meta.example/graph/v27.0/301?")


@pytest.mark.parametrize("version", ["25.0", "v25", "v26.0/x", "v26.0\n", "latest", "", "v26.0.1"])
def test_what_is_no_version_is_not_taken(version: str) -> None:
    with pytest.raises(ValidationError):
        MetaAccount.model_validate({**SETTINGS, "version": version})


def test_a_copy_is_asked_to_be_paused_unless_the_caller_says_otherwise() -> None:
    assert sent() == {"deep_copy": "false", "status_option": "PAUSED"}
    assert MetaCampaignInput(campaign_id=ID("101")).status_option == MetaStatusOption.PAUSED
    assert sent(status_option=MetaStatusOption.ACTIVE)["status_option"] == "ACTIVE"


def test_a_deep_copy_is_asked_for_in_json() -> None:
    assert sent(deep_copy=True)["deep_copy"] == "true"


def test_ways_of_renaming_are_one_object_in_json() -> None:
    strategy = MetaRenameStrategy.DEEP_RENAME
    fields = sent(rename_strategy=strategy, rename_prefix="Ä & ", rename_suffix=" (2)")
    assert json.loads(fields["rename_options"]) == {
        "rename_strategy": "DEEP_RENAME",
        "rename_prefix": "Ä & ",
        "rename_suffix": " (2)",
    }
    assert json.loads(sent(rename_suffix=" (2)")["rename_options"]) == {"rename_suffix": " (2)"}


def test_an_input_from_the_ledger_asks_for_the_same() -> None:
    campaign = replace(
        CAMPAIGN,
        status_option=MetaStatusOption.INHERITED_FROM_SOURCE,
        rename_strategy=MetaRenameStrategy.NO_RENAME,
    )
    recorded = MetaCampaignInput(**json.loads(json.dumps(asdict(campaign))))
    assert CONNECTOR.build_request(recorded) == CONNECTOR.build_request(campaign)


def test_the_name_goes_into_a_call_of_its_own() -> None:
    assert "name" not in sent(name="A copy")
    request = CONNECTOR.build_rename(replace(CAMPAIGN, name="Ä copy & more"), "301", None)
    assert (request.method, request.url) == ("POST", "https://graph.facebook.com/v26.0/301")
    assert form_of(request) == {"name": "Ä copy & more"}


@pytest.mark.parametrize(
    ("field", "shown"),
    [("name", "name"), ("rename_prefix", "renamePrefix"), ("rename_suffix", "renameSuffix")],
)
@pytest.mark.parametrize("value", ["", "two\nlines", "\x00"])
def test_a_name_that_cannot_be_sent_is_refused_before_the_copy_is_made(
    field: str, shown: str, value: str
) -> None:
    with pytest.raises(Refused) as refusal:
        sent(**{field: value})
    assert refusal.value.error.field == (shown,)


# Answers


def test_a_success_tells_the_id_and_nothing_else() -> None:
    body = {"copied_campaign_id": "301", "ad_object_ids": []}
    assert read(200, body) == Created(Campaign("301", copied_from="101"))
    assert read(200, body, x_fb_trace_id="T-1") == Created(
        Campaign("301", copied_from="101"), "T-1"
    )


def test_a_success_may_be_the_copy_itself() -> None:
    assert read(200, COPY) == Created(Campaign("301", copied_from="101"))
    assert isinstance(read(200, {**COPY, "id": "101"}), Unknown)
    assert isinstance(read(200, {**COPY, "error": {"code": 2}}), Unknown)


@pytest.mark.parametrize("copy_id", [None, "", "101", 301, "3/01", ["301"]], ids=repr)
def test_a_success_without_the_id_of_a_copy_leaves_it_open(copy_id: object) -> None:
    assert isinstance(read(200, {"copied_campaign_id": copy_id, "id": "301"}), Unknown)


@pytest.mark.parametrize("status", [400, 500, 502])
def test_an_id_in_a_failure_is_not_believed(status: int) -> None:
    assert not isinstance(read(status, {"copied_campaign_id": "301"}), Created)


CODES = [
    (190, None, ErrorCode.AUTHENTICATION_FAILED),
    (190, 463, ErrorCode.AUTHENTICATION_FAILED),
    (102, None, ErrorCode.AUTHENTICATION_FAILED),
    (104, None, ErrorCode.AUTHENTICATION_FAILED),
    (3, None, ErrorCode.PERMISSION_DENIED),
    (10, None, ErrorCode.PERMISSION_DENIED),
    (200, None, ErrorCode.PERMISSION_DENIED),
    (299, None, ErrorCode.PERMISSION_DENIED),
    (294, None, ErrorCode.PERMISSION_DENIED),
    (368, None, ErrorCode.PERMISSION_DENIED),
    (4, None, ErrorCode.RATE_LIMITED),
    (17, 2446079, ErrorCode.RATE_LIMITED),
    (613, 1487742, ErrorCode.RATE_LIMITED),
    (80000, None, ErrorCode.RATE_LIMITED),
    (80004, None, ErrorCode.RATE_LIMITED),
    (80014, None, ErrorCode.RATE_LIMITED),
    (100, None, ErrorCode.INVALID_INPUT),
    (100, 1885194, ErrorCode.INVALID_INPUT),
    (100, 33, ErrorCode.CAMPAIGN_NOT_FOUND),
    (2635, None, ErrorCode.PROVIDER_UNAVAILABLE),
]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
@pytest.mark.parametrize(("code", "subcode", "meaning"), CODES)
def test_the_code_says_more_than_the_status(
    code: int, subcode: int | None, meaning: ErrorCode, status: int
) -> None:
    outcome = failed(status, code, subcode)
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == meaning
    assert outcome.error.provider_code == (f"{code}/{subcode}" if subcode else f"{code}")


@pytest.mark.parametrize("status", [200, 302, 408, 500, 503])
@pytest.mark.parametrize(("code", "subcode", "_"), CODES)
def test_no_code_makes_a_refusal_of_an_answer_that_is_none(
    code: int, subcode: int | None, _: ErrorCode, status: int
) -> None:
    assert isinstance(failed(status, code, subcode), Unknown)


@pytest.mark.parametrize("code", [1, 2, 5000, -1, -3])
def test_an_error_that_tells_nothing_leaves_it_open_whatever_the_status(code: int) -> None:
    for status in (400, 403, 500, 503):
        assert isinstance(failed(status, code), Unknown)


def test_an_error_that_will_pass_leaves_it_open_unless_its_code_is_a_refusal() -> None:
    assert isinstance(failed(400, 3910001, is_transient=True), Unknown)
    assert isinstance(failed(400, 4, is_transient=True), Rejected)
    assert isinstance(failed(400, 3910001, is_transient=False), Rejected)


@pytest.mark.parametrize("code", [None, "", "many", 1.5, [], 10**30], ids=repr)
def test_without_a_code_the_status_decides(code: object) -> None:
    outcome = failed(403, code)
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.PERMISSION_DENIED
    assert outcome.error.provider_code == "403"


def test_what_is_wrong_is_told_in_the_words_for_the_user_too() -> None:
    outcome = failed(400, 100, 1885194, error_user_msg="Too many ads", fbtrace_id="T-2")
    assert isinstance(outcome, Rejected)
    assert outcome.error.provider_message == "no: Too many ads"
    assert outcome.trace_id == "T-2"


def limited(usage: str, **headers: str) -> int | None:
    body = {"error": {"code": 80004}}
    outcome = read(400, body, x_business_use_case_usage=usage, **headers)
    assert isinstance(outcome, Rejected)
    return outcome.error.retry_after


def test_a_limit_says_in_minutes_how_long_to_wait() -> None:
    def usage(*minutes: object) -> str:
        uses = [{"type": "t", "estimated_time_to_regain_access": each} for each in minutes]
        return json.dumps({"1": uses, "2": [{"type": "t"}], "3": None})

    assert limited(usage(7)) == 420
    assert limited(usage(0, 3)) == 180
    assert limited(usage(100_000)) == 3600
    assert limited(usage(7), retry_after="5") == 5
    assert limited(usage(0)) is None


@pytest.mark.parametrize(
    "usage", ["", "{", "[]", '{"1": [7, null, "x"]}', '{"1": {}}', "\xff", '{"1": [{}]}']
)
def test_a_usage_that_cannot_be_read_says_nothing(usage: str) -> None:
    assert limited(usage) is None
    strange = usage.replace("7", '{"estimated_time_to_regain_access": -5}')
    assert limited(strange) is None


def test_a_rename_is_done_when_meta_says_so() -> None:
    assert CONNECTOR.parse_rename(respond(200, {"success": True})) is None
    assert CONNECTOR.parse_rename(respond(200, {"id": "120210000000000301"})) is None
    torn = {"success": True, "error": {"code": 2, "message": "no"}}
    assert isinstance(CONNECTOR.parse_rename(respond(200, torn)), Unknown)
    for unclear in (False, "true", 1, None):
        assert isinstance(CONNECTOR.parse_rename(respond(200, {"success": unclear})), Unknown)
    assert isinstance(CONNECTOR.parse_rename(respond(500, {"success": True})), Unknown)
    refusal = CONNECTOR.parse_rename(respond(400, {"error": {"code": 100, "message": "no"}}))
    assert isinstance(refusal, Rejected)
    assert refusal.error.provider_code == "100"


# Reading and finding


def test_a_campaign_is_read_with_its_source_and_in_utc() -> None:
    assert looked_up(200, COPY) == Campaign(
        id="301",
        name="A copy",
        status=CampaignStatus.PAUSED,
        provider_status="PAUSED",
        created_at=datetime(2026, 5, 1, 19, 0, 0, tzinfo=UTC),
        updated_at=datetime(2026, 5, 1, 19, 0, 2, tzinfo=UTC),
        copied_from="101",
    )


@pytest.mark.parametrize("source", ["0", "", None, 0], ids=repr)
def test_a_campaign_that_is_no_copy_has_no_source(source: object) -> None:
    found = looked_up(200, {**COPY, "source_campaign_id": source})
    assert found is not None
    assert found.copied_from is None


@pytest.mark.parametrize(
    ("status", "effective", "meaning", "word"),
    [
        ("ACTIVE", "ACTIVE", CampaignStatus.ACTIVE, "ACTIVE"),
        ("ACTIVE", "WITH_ISSUES", CampaignStatus.ACTIVE, "WITH_ISSUES"),
        ("PAUSED", "IN_PROCESS", CampaignStatus.PAUSED, "IN_PROCESS"),
        ("ARCHIVED", "ARCHIVED", CampaignStatus.ARCHIVED, "ARCHIVED"),
        ("DELETED", "DELETED", CampaignStatus.ARCHIVED, "DELETED"),
        ("PAUSED", None, CampaignStatus.PAUSED, "PAUSED"),
        ("WARMING_UP", None, CampaignStatus.UNKNOWN, "WARMING_UP"),
        (None, None, CampaignStatus.UNKNOWN, None),
    ],
)
def test_the_status_is_what_it_is_set_to_and_the_word_what_comes_of_it(
    status: str | None, effective: str | None, meaning: CampaignStatus, word: str | None
) -> None:
    found = looked_up(200, {**COPY, "status": status, "effective_status": effective})
    assert found is not None
    assert (found.status, found.provider_status) == (meaning, word)


def test_only_code_100_with_subcode_33_says_that_there_is_no_campaign() -> None:
    for status in (400, 404):
        assert looked_up(status, {"error": {"code": 100, "error_subcode": 33}}) is None
    for status, code, subcode in [(400, 100, 0), (400, 190, 33), (500, 100, 33), (403, 200, 33)]:
        with pytest.raises(UnexpectedResponse):
            looked_up(status, {"error": {"code": code, "error_subcode": subcode}})


def test_a_search_asks_for_the_copies_of_the_source_and_for_archived_ones_too() -> None:
    parts = urlsplit(CONNECTOR.build_search(CAMPAIGN, None).url)
    assert parts.path == "/v26.0/101/copies"
    query = parse_qs(parts.query)
    assert "source_campaign_id" in query["fields"][0].split(",")
    assert json.loads(query["effective_status"][0]) == module.LISTED
    assert "after" not in query
    # Such a filter is refused as a whole.
    assert "DELETED" not in module.LISTED


def test_a_cursor_stays_one_parameter() -> None:
    for cursor in ("MTAxNTExOTQ1MjAwNzI5NDE=", "a&limit=1#x", "../.."):
        query = urlsplit(CONNECTOR.build_search(CAMPAIGN, cursor).url).query
        assert parse_qs(query)["after"] == [cursor]


def test_a_page_has_a_next_one_only_if_meta_links_to_it() -> None:
    def after(paging: object) -> str | None:
        page = CONNECTOR.parse_search(respond(200, {"data": [COPY], "paging": paging}), None)
        assert [each.copied_from for each in page.campaigns] == ["101"]
        return page.next_cursor

    cursors = {"before": "b", "after": "a="}
    assert after({"cursors": cursors, "next": "https://graph.facebook.com/x"}) == "a="
    assert after({"cursors": cursors}) is None
    assert after({"next": "https://graph.facebook.com/x"}) is None
    assert after(None) is None


# At the emulator


@pytest.fixture
def live(serve: Callable[[ASGIApp], str], open_at: Callable[..., Account]) -> Account:
    return open_at("meta", serve(create_emulator()), access_token=ACCESS_TOKEN)


def of(account: Account) -> MetaConnector:
    assert isinstance(account.connector, MetaConnector)
    return account.connector


async def copied(account: Account, duplicate: Duplicate, campaign: MetaCampaignInput) -> Created:
    outcome = await duplicate(account, campaign)
    assert isinstance(outcome, Created)
    return outcome


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "Spring sale - Copy"),
        ({"rename_suffix": " (2)"}, "Spring sale (2)"),
        ({"rename_prefix": "New: "}, "New: Spring sale - Copy"),
        ({"rename_strategy": MetaRenameStrategy.NO_RENAME}, "Spring sale"),
        ({"rename_suffix": " (2)", "name": "Summer sale"}, "Summer sale"),
    ],
)
async def test_a_copy_is_called_as_asked_or_else_as_meta_calls_it(
    changes: dict[str, Any], name: str, live: Account, duplicate: Duplicate
) -> None:
    campaign = replace(CAMPAIGN, campaign_id=ID("120210000000000101"), **changes)
    copy = await copied(live, duplicate, campaign)
    assert copy.campaign.name == name
    assert copy.campaign.copied_from == campaign.campaign_id
    assert not copy.warnings


@pytest.mark.parametrize(
    ("option", "status"),
    [
        (MetaStatusOption.PAUSED, CampaignStatus.PAUSED),
        (MetaStatusOption.ACTIVE, CampaignStatus.ACTIVE),
        (MetaStatusOption.INHERITED_FROM_SOURCE, CampaignStatus.ACTIVE),
    ],
)
async def test_a_copy_begins_with_the_status_that_was_asked_for(
    option: MetaStatusOption, status: CampaignStatus, live: Account, duplicate: Duplicate
) -> None:
    campaign = replace(CAMPAIGN, campaign_id=ID("120210000000000101"), status_option=option)
    assert (await copied(live, duplicate, campaign)).campaign.status == status


async def test_a_search_walks_every_page_and_sees_the_copies_of_one_source_only(
    live: Account, duplicate: Duplicate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_SIZE", 2)
    wanted = replace(CAMPAIGN, campaign_id=ID("120210000000000101"))
    await copied(live, duplicate, replace(CAMPAIGN, campaign_id=ID("120210000000000102")))
    made = [(await copied(live, duplicate, wanted)).campaign.id for _ in range(5)]
    found: list[str] = []
    cursor: str | None = None
    for _ in range(10):
        response = await live.transport.send_idempotent(of(live).build_search(wanted, cursor))
        page = of(live).parse_search(response, cursor)
        assert len(page.campaigns) <= 2
        found += [each.id for each in page.campaigns]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(found) == sorted(made)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("rename-refused", "Invalid parameter: The name is not acceptable."),
        ("rename-error-500", "An unknown error occurred"),
    ],
)
async def test_a_copy_without_its_name_is_told_with_metas_words(
    source: str, said: str, live: Account, duplicate: Duplicate
) -> None:
    campaign = replace(CAMPAIGN, campaign_id=ID(source), name="Summer sale")
    copy = await copied(live, duplicate, campaign)
    assert copy.campaign.name == f"{source} - Copy"
    assert [(each.code, each.provider_message) for each in copy.warnings] == [
        (WarningCode.NAME_NOT_APPLIED, said)
    ]
