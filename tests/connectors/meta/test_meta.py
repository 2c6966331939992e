"""Meta's own behaviour: a response of ids, a name in a second call, codes of its own."""

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

from campaign_gateway.accounts.account import Account
from campaign_gateway.connectors.contract import (
    ProviderRequest,
    UnexpectedResponse,
)
from campaign_gateway.connectors.providers import meta as module
from campaign_gateway.connectors.providers.meta import (
    MetaAccount,
    MetaCampaignInput,
    MetaConnector,
    MetaObjectKind,
    MetaRenameStrategy,
    MetaStatusOption,
)
from campaign_gateway.model import (
    Campaign,
    CampaignStatus,
    CopiedObject,
    Created,
    ErrorCode,
    Outcome,
    Refused,
    Rejected,
    Unknown,
    WarningCode,
)
from campaign_gateway.sandbox.contract_suite.calling import free_permit
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
    kind=None,
    start_time=None,
    end_time=None,
    migrate_to_advantage_plus=None,
    to_campaign_id=None,
    to_ad_set_id=None,
    title=None,
    body=None,
    link_url=None,
    url_tags=None,
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


def test_version_and_id_are_in_the_path_and_token_in_a_header() -> None:
    request = CONNECTOR.build_request(CAMPAIGN)
    assert request.method == "POST"
    assert request.url == "https://graph.facebook.com/v26.0/101/copies"
    assert request.headers["authorization"] == "Bearer EAAtoken"


def test_version_is_a_setting() -> None:
    settings = {**SETTINGS, "version": "v27.0", "base_url": "https://meta.example/graph"}
    request = MetaConnector(MetaAccount.model_validate(settings)).build_lookup("301", None)
    assert request.url.startswith("https://meta.example/graph/v27.0/301?")


@pytest.mark.parametrize("version", ["25.0", "v25", "v26.0/x", "v26.0\n", "latest", "", "v26.0.1"])
def test_invalid_version_is_refused(version: str) -> None:
    with pytest.raises(ValidationError):
        MetaAccount.model_validate({**SETTINGS, "version": version})


def test_copy_is_paused_by_default() -> None:
    assert sent() == {"deep_copy": "false", "status_option": "PAUSED"}
    assert MetaCampaignInput(campaign_id=ID("101")).status_option == MetaStatusOption.PAUSED
    assert sent(status_option=MetaStatusOption.ACTIVE)["status_option"] == "ACTIVE"


def test_deep_copy_is_sent_as_json() -> None:
    assert sent(deep_copy=True)["deep_copy"] == "true"


def test_rename_options_are_one_json_object() -> None:
    strategy = MetaRenameStrategy.DEEP_RENAME
    fields = sent(rename_strategy=strategy, rename_prefix="Ä & ", rename_suffix=" (2)")
    assert json.loads(fields["rename_options"]) == {
        "rename_strategy": "DEEP_RENAME",
        "rename_prefix": "Ä & ",
        "rename_suffix": " (2)",
    }
    assert json.loads(sent(rename_suffix=" (2)")["rename_options"]) == {"rename_suffix": " (2)"}


def test_input_from_the_ledger_builds_the_same_requests() -> None:
    campaign = replace(
        CAMPAIGN,
        status_option=MetaStatusOption.INHERITED_FROM_SOURCE,
        rename_strategy=MetaRenameStrategy.NO_RENAME,
    )
    recorded = MetaCampaignInput(**json.loads(json.dumps(asdict(campaign))))
    assert CONNECTOR.build_request(recorded) == CONNECTOR.build_request(campaign)


def test_name_is_sent_in_a_second_call() -> None:
    assert "name" not in sent(name="A copy")
    request = CONNECTOR.build_rename(replace(CAMPAIGN, name="Ä copy & more"), "301", None)
    assert (request.method, request.url) == ("POST", "https://graph.facebook.com/v26.0/301")
    assert form_of(request) == {"name": "Ä copy & more"}


@pytest.mark.parametrize(
    ("field", "shown"),
    [("name", "name"), ("rename_prefix", "renamePrefix"), ("rename_suffix", "renameSuffix")],
)
@pytest.mark.parametrize("value", ["", "two\nlines", "\x00"])
def test_invalid_name_is_refused_before_the_copy(field: str, shown: str, value: str) -> None:
    with pytest.raises(Refused) as refusal:
        sent(**{field: value})
    assert refusal.value.error.field == (shown,)


# Responses


def test_success_has_only_the_id() -> None:
    body = {"copied_campaign_id": "301", "ad_object_ids": []}
    assert read(200, body) == Created(Campaign("301", copied_from="101"))
    assert read(200, body, x_fb_trace_id="T-1") == Created(
        Campaign("301", copied_from="101"), "T-1"
    )


def test_success_with_the_whole_copy_is_created() -> None:
    assert read(200, COPY) == Created(Campaign("301", copied_from="101"))
    assert isinstance(read(200, {**COPY, "id": "101"}), Unknown)
    assert isinstance(read(200, {**COPY, "error": {"code": 2}}), Unknown)


@pytest.mark.parametrize("copy_id", [None, "", "101", 301, "3/01", ["301"]], ids=repr)
def test_success_without_an_id_is_unknown(copy_id: object) -> None:
    assert isinstance(read(200, {"copied_campaign_id": copy_id, "id": "301"}), Unknown)


@pytest.mark.parametrize("status", [400, 500, 502])
def test_id_in_a_failure_is_ignored(status: int) -> None:
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
def test_code_overrides_the_status(
    code: int, subcode: int | None, meaning: ErrorCode, status: int
) -> None:
    outcome = failed(status, code, subcode)
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == meaning
    assert outcome.error.provider_code == (f"{code}/{subcode}" if subcode else f"{code}")


@pytest.mark.parametrize("status", [200, 302, 408, 500, 503])
@pytest.mark.parametrize(("code", "subcode", "_"), CODES)
def test_no_code_turns_another_status_into_a_rejection(
    code: int, subcode: int | None, _: ErrorCode, status: int
) -> None:
    assert isinstance(failed(status, code, subcode), Unknown)


@pytest.mark.parametrize("code", [1, 2, 5000, -1, -3])
def test_error_without_a_meaning_is_unknown_with_any_status(code: int) -> None:
    for status in (400, 403, 500, 503):
        assert isinstance(failed(status, code), Unknown)


def test_transient_error_is_unknown_unless_its_code_is_a_rejection() -> None:
    assert isinstance(failed(400, 3910001, is_transient=True), Unknown)
    assert isinstance(failed(400, 4, is_transient=True), Rejected)
    assert isinstance(failed(400, 3910001, is_transient=False), Rejected)


@pytest.mark.parametrize("code", [None, "", "many", 1.5, [], 10**30], ids=repr)
def test_status_decides_without_a_code(code: object) -> None:
    outcome = failed(403, code)
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.PERMISSION_DENIED
    assert outcome.error.provider_code == "403"


def test_error_has_the_message_for_the_user_too() -> None:
    outcome = failed(400, 100, 1885194, error_user_msg="Too many ads", fbtrace_id="T-2")
    assert isinstance(outcome, Rejected)
    assert outcome.error.provider_message == "no: Too many ads"
    assert outcome.trace_id == "T-2"


def limited(usage: str, **headers: str) -> int | None:
    body = {"error": {"code": 80004}}
    outcome = read(400, body, x_business_use_case_usage=usage, **headers)
    assert isinstance(outcome, Rejected)
    return outcome.error.retry_after


def test_rate_limit_header_in_minutes_gives_seconds() -> None:
    def usage(*minutes: object) -> str:
        uses = [{"type": "t", "estimated_time_to_regain_access": minute} for minute in minutes]
        return json.dumps({"1": uses, "2": [{"type": "t"}], "3": None})

    assert limited(usage(7)) == 420
    assert limited(usage(0, 3)) == 180
    assert limited(usage(100_000)) == 3600
    assert limited(usage(7), retry_after="5") == 5
    assert limited(usage(0)) is None


@pytest.mark.parametrize(
    "usage", ["", "{", "[]", '{"1": [7, null, "x"]}', '{"1": {}}', "\xff", '{"1": [{}]}']
)
def test_unreadable_usage_header_gives_no_delay(usage: str) -> None:
    assert limited(usage) is None
    strange = usage.replace("7", '{"estimated_time_to_regain_access": -5}')
    assert limited(strange) is None


def test_rename_succeeds_with_metas_success() -> None:
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


# Searches and lookups


def test_lookup_has_the_source_and_times_in_utc() -> None:
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
def test_source_of_a_campaign_that_is_no_copy_is_none(source: object) -> None:
    campaign = looked_up(200, {**COPY, "source_campaign_id": source})
    assert campaign is not None
    assert campaign.copied_from is None


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
def test_status_is_the_setting_and_provider_status_the_effective_one(
    status: str | None, effective: str | None, meaning: CampaignStatus, word: str | None
) -> None:
    campaign = looked_up(200, {**COPY, "status": status, "effective_status": effective})
    assert campaign is not None
    assert (campaign.status, campaign.provider_status) == (meaning, word)


def test_only_code_100_with_subcode_33_is_an_unknown_campaign() -> None:
    for status in (400, 404):
        assert looked_up(status, {"error": {"code": 100, "error_subcode": 33}}) is None
    for status, code, subcode in [(400, 100, 0), (400, 190, 33), (500, 100, 33), (403, 200, 33)]:
        with pytest.raises(UnexpectedResponse):
            looked_up(status, {"error": {"code": code, "error_subcode": subcode}})


def test_search_lists_the_copies_of_the_source_with_archived_ones() -> None:
    parts = urlsplit(CONNECTOR.build_search(CAMPAIGN, None).url)
    assert parts.path == "/v26.0/101/copies"
    query = parse_qs(parts.query)
    assert "source_campaign_id" in query["fields"][0].split(",")
    assert json.loads(query["effective_status"][0]) == module.LISTED
    assert "after" not in query
    # Meta rejects such a filter as a whole.
    assert "DELETED" not in module.LISTED


def test_cursor_stays_one_parameter() -> None:
    for cursor in ("MTAxNTExOTQ1MjAwNzI5NDE=", "a&limit=1#x", "../.."):
        query = urlsplit(CONNECTOR.build_search(CAMPAIGN, cursor).url).query
        assert parse_qs(query)["after"] == [cursor]


def test_page_has_a_next_one_only_with_a_link() -> None:
    def after(paging: object) -> str | None:
        page = CONNECTOR.parse_search(respond(200, {"data": [COPY], "paging": paging}), None)
        assert [campaign.copied_from for campaign in page.campaigns] == ["101"]
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
async def test_copy_has_the_requested_name_or_metas_name(
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
async def test_requested_status_option_is_sent(
    option: MetaStatusOption, status: CampaignStatus, live: Account, duplicate: Duplicate
) -> None:
    campaign = replace(CAMPAIGN, campaign_id=ID("120210000000000101"), status_option=option)
    assert (await copied(live, duplicate, campaign)).campaign.status == status


async def test_search_reads_every_page_of_one_sources_copies(
    live: Account, duplicate: Duplicate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_SIZE", 2)
    wanted = replace(CAMPAIGN, campaign_id=ID("120210000000000101"))
    await copied(live, duplicate, replace(CAMPAIGN, campaign_id=ID("120210000000000102")))
    made = [(await copied(live, duplicate, wanted)).campaign.id for _ in range(5)]
    ids: list[str] = []
    cursor: str | None = None
    for _ in range(10):
        response = await live.transport.send_idempotent(
            of(live).build_search(wanted, cursor), free_permit()
        )
        page = of(live).parse_search(response, cursor)
        assert len(page.campaigns) <= 2
        ids += [campaign.id for campaign in page.campaigns]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(ids) == sorted(made)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("rename-refused", "Invalid parameter: The name is not acceptable."),
        ("rename-error-500", "An unknown error occurred"),
    ],
)
async def test_failed_rename_has_metas_message(
    source: str, message: str, live: Account, duplicate: Duplicate
) -> None:
    campaign = replace(CAMPAIGN, campaign_id=ID(source), name="Summer sale")
    copy = await copied(live, duplicate, campaign)
    assert copy.campaign.name == f"{source} - Copy"
    assert [(warning.code, warning.provider_message) for warning in copy.warnings] == [
        (WarningCode.NAME_NOT_APPLIED, message)
    ]


# Ad sets, ads, and the other options of the copying call


AD_SET = replace(CAMPAIGN, kind=MetaObjectKind.AD_SET)
AD = replace(CAMPAIGN, kind=MetaObjectKind.AD)


def test_options_are_sent_as_meta_names_them() -> None:
    assert sent(
        start_time="2027-03-01T09:00:00+01:00",
        end_time="2027-03-08T09:00:00Z",
        migrate_to_advantage_plus=True,
    ) == {
        "deep_copy": "false",
        "status_option": "PAUSED",
        "start_time": "2027-03-01T09:00:00+01:00",
        "end_time": "2027-03-08T09:00:00+00:00",
        "migrate_to_advantage_plus": "true",
    }
    assert sent(kind=MetaObjectKind.AD_SET, to_campaign_id=ID("9"))["campaign_id"] == "9"
    of_an_ad = sent(kind=MetaObjectKind.AD, to_ad_set_id=ID("8"))
    assert of_an_ad == {"status_option": "PAUSED", "adset_id": "8"}


def test_texts_of_a_copied_ad_are_the_keys_of_its_creative() -> None:
    texts = {"title": "Spring", "body": "One.\nTwo.", "url_tags": "utm_campaign=spring"}
    call = sent(kind=MetaObjectKind.AD, link_url="https://example.com/a", **texts)
    assert json.loads(call.pop("creative_parameters")) == {
        **texts,
        "link_url": "https://example.com/a",
    }
    assert call == {"status_option": "PAUSED"}


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("deepCopy", {"kind": MetaObjectKind.AD, "deep_copy": True}),
        ("startTime", {"kind": MetaObjectKind.AD, "start_time": "2027-03-01T09:00:00Z"}),
        ("endTime", {"kind": MetaObjectKind.AD, "end_time": "2027-03-01T09:00:00Z"}),
        ("startTime", {"start_time": "2027-03-01T09:00:00"}),
        ("endTime", {"end_time": "next week"}),
        ("endTime", {"end_time": "2027-03-01T09:00:00-00:00:01"}),
        ("migrateToAdvantagePlus", {"kind": MetaObjectKind.AD, "migrate_to_advantage_plus": True}),
        ("toCampaignId", {"to_campaign_id": ID("9")}),
        ("toAdSetId", {"kind": MetaObjectKind.AD_SET, "to_ad_set_id": ID("8")}),
        ("title", {"title": "Spring"}),
        ("body", {"kind": MetaObjectKind.AD_SET, "body": "Spring"}),
        ("linkUrl", {"link_url": "https://example.com/"}),
        ("urlTags", {"kind": MetaObjectKind.CAMPAIGN, "url_tags": "utm_campaign=spring"}),
        ("title", {"kind": MetaObjectKind.AD, "title": "two\nlines"}),
    ],
)
def test_option_of_another_kind_or_without_a_zone_is_refused(
    field: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(Refused) as refusal:
        sent(**changes)
    assert refusal.value.error.field == (field,)


@pytest.mark.parametrize("wanted", [AD_SET, AD], ids=["ad set", "ad"])
def test_every_kind_activates_nothing_unless_asked(wanted: MetaCampaignInput) -> None:
    assert not CONNECTOR.activates(wanted)
    assert CONNECTOR.activates(replace(wanted, status_option=MetaStatusOption.ACTIVE))
    inherited = MetaStatusOption.INHERITED_FROM_SOURCE
    assert CONNECTOR.activates(replace(wanted, status_option=inherited))


async def test_ad_set_and_ad_are_copied_renamed_listed_and_read(
    serve: Callable[[ASGIApp], str], open_at: Callable[..., Account], duplicate: Duplicate
) -> None:
    live = open_at("meta", serve(create_emulator()), access_token=ACCESS_TOKEN)
    for wanted, source in ((AD_SET, "120210000000000111"), (AD, "120210000000000121")):
        named = replace(wanted, campaign_id=ID(source), name="Another wave")
        outcome = await duplicate(live, named)
        assert isinstance(outcome, Created)
        assert (outcome.campaign.name, outcome.campaign.copied_from) == ("Another wave", source)
        assert outcome.campaign.status is CampaignStatus.PAUSED
        response = await live.transport.send_idempotent(
            of(live).build_search(named, None), free_permit()
        )
        (listed,) = of(live).parse_search(response, None).campaigns
        assert (listed.id, listed.copied_from) == (outcome.campaign.id, source)


async def test_children_of_a_deep_copy_are_kept_when_the_copy_is_read(
    serve: Callable[[ASGIApp], str], open_at: Callable[..., Account], duplicate: Duplicate
) -> None:
    live = open_at("meta", serve(create_emulator()), access_token=ACCESS_TOKEN)
    wanted = replace(CAMPAIGN, campaign_id=ID("120210000000000101"), deep_copy=True)
    outcome = await duplicate(live, wanted)
    assert isinstance(outcome, Created)
    assert outcome.campaign.name == "Spring sale - Copy"
    assert [each.type for each in outcome.campaign.copied_objects] == ["ad_set", "ad"]


def test_copied_objects_with_anything_missing_are_left_out() -> None:
    whole = {"ad_object_type": "ad", "source_id": "1", "copied_id": "2"}
    items = [whole, {**whole, "copied_id": None}, {**whole, "source_id": "../x"}, None, "ad", []]
    outcome = read(200, {"copied_campaign_id": "301", "ad_object_ids": items})
    assert isinstance(outcome, Created)
    assert outcome.campaign.copied_objects == (CopiedObject("ad", "1", "2"),)


def test_limit_of_three_objects_is_explained() -> None:
    outcome = failed(400, 100, 1885194)
    assert isinstance(outcome, Rejected)
    assert outcome.error.field == ("input", "meta", "deepCopy")
    assert "at most three ad sets and ads" in outcome.error.message
    assert "kind AD_SET" in outcome.error.message
    unknown = failed(500, 100, 1885194)
    assert isinstance(unknown, Unknown)
    assert unknown.error.field is None
