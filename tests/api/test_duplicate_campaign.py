"""The mutation over HTTP to a whole gateway, with real sockets to the emulators."""

import asyncio
import json
import uuid
from typing import Any

import pytest

from campaign_gateway.api import examples
from campaign_gateway.connectors.registry import CONNECTORS

pytestmark = pytest.mark.asyncio(loop_scope="module")

BRAZE = 'braze: { campaignId: "0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10", name: "Wave two" }'
GROUP = 'accountGroupId: "507f1f77bcf86cd799439001", audienceId: "507f1f77bcf86cd799439021"'
SONARLY = f'sonarly: {{ {GROUP}, campaignId: "507f1f77bcf86cd799439011", name: "Q3" }}'
TRIGGER = 'altcraft: { account: "altcraft", campaignId: 96, name: "Cart" }'
MAILING = 'altcraft: { account: "altcraft", campaignId: 87, kind: CAMPAIGN, name: "News" }'
XML = 'altcraft: { account: "altcraft-xml", campaignId: 96, name: "Cart <&> \\"quoted\\"" }'


def braze(campaign_id: str) -> str:
    return f"braze: {{ campaignId: {json.dumps(campaign_id)}, name: {json.dumps(campaign_id)} }}"


def sonarly(campaign_id: str) -> str:
    quoted = json.dumps(campaign_id)
    return f"sonarly: {{ {GROUP}, campaignId: {quoted}, name: {quoted} }}"


def altcraft(campaign_id: int, account: str = "altcraft") -> str:
    return f'altcraft: {{ account: "{account}", campaignId: {campaign_id}, name: "{campaign_id}" }}'


@pytest.mark.parametrize(
    ("fields", "name", "provider"),
    [
        (SONARLY, "Q3", "sonarly"),
        (TRIGGER, "Cart", "altcraft"),
        (MAILING, "News", "altcraft"),
        (XML, 'Cart <&> "quoted"', "altcraft"),
    ],
)
async def test_provider_that_returns_the_copy_makes_it_created(
    shared_client: Any, fields: str, name: str, provider: str
) -> None:
    payload = await shared_client.duplicate(fields)

    assert payload["status"] == "CREATED"
    assert payload["userErrors"] == []
    assert payload["replayed"] is False
    (copy,) = shared_client.counted(provider)["copies"]
    assert copy["name"] == name
    assert payload["campaign"]["id"] == copy["id"]
    assert payload["campaign"]["name"] == name
    assert payload["campaign"]["provider"] == provider.upper()
    assert payload["duplication"]["evidence"] == "RESPONSE"
    assert payload["duplication"]["settledAt"] is not None


async def test_accepted_copy_is_found_by_reading_and_becomes_created(client: Any) -> None:
    payload = await client.duplicate(BRAZE)
    assert payload["status"] == "ACCEPTED"
    assert payload["campaign"] is None
    assert payload["userErrors"] == []
    assert payload["duplication"]["settledAt"] is None

    duplication = await settled(client, payload["duplication"]["id"])

    (copy,) = client.counted("braze")["copies"]
    assert duplication["status"] == "CREATED"
    assert duplication["evidence"] == "INFERRED"
    assert duplication["campaign"] == {"id": copy["id"], "name": "Wave two", "status": "DRAFT"}
    assert duplication["settledAt"] is not None


async def test_two_identical_intents_get_different_copies(client: Any) -> None:
    first, second = await asyncio.gather(client.duplicate(BRAZE), client.duplicate(BRAZE))

    duplications = [
        await settled(client, payload["duplication"]["id"]) for payload in (first, second)
    ]

    made = {copy["id"] for copy in client.counted("braze")["copies"]}
    assert {duplication["campaign"]["id"] for duplication in duplications} == made
    assert len(made) == 2


async def test_accepted_copy_that_never_appears_stays_accepted(client: Any) -> None:
    payload = await client.duplicate(braze("never-created"))
    await asyncio.sleep(4)
    duplication = await watch(client, payload["duplication"]["id"])
    assert duplication["status"] == "ACCEPTED"
    assert duplication["campaign"] is None


async def watch(client: Any, duplication_id: str) -> dict[str, Any]:
    query = """query Watch($id: ID!) { duplication(id: $id) {
      status evidence settledAt campaign { id name status } } }"""
    duplication: dict[str, Any] = (await client.ask(query, id=duplication_id))["duplication"]
    return duplication


async def settled(client: Any, duplication_id: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            duplication = await watch(client, duplication_id)
            if duplication["status"] in {"CREATED", "REJECTED"}:
                return duplication
            await asyncio.sleep(0.2)


@pytest.mark.parametrize(
    ("fields", "provider"), [(BRAZE, "braze"), (SONARLY, "sonarly"), (XML, "altcraft")]
)
async def test_same_key_again_returns_the_same_copy(
    shared_client: Any, fields: str, provider: str
) -> None:
    key = str(uuid.uuid4())
    first = await shared_client.duplicate(fields, key)
    again = await shared_client.duplicate(fields, key)

    assert again["replayed"] is True
    assert again["duplication"]["id"] == first["duplication"]["id"]
    assert again["campaign"] == first["campaign"]
    counted = shared_client.counted(provider)
    assert (counted["asked"], counted["count"]) == (1, 1)


async def test_twenty_parallel_requests_with_one_key_make_one_copy(shared_client: Any) -> None:
    key = str(uuid.uuid4())
    payloads = await asyncio.gather(*(shared_client.duplicate(SONARLY, key) for _ in range(20)))

    assert {payload["status"] for payload in payloads} == {"CREATED"}
    assert len({payload["campaign"]["id"] for payload in payloads}) == 1
    assert [payload["replayed"] for payload in payloads].count(False) == 1
    counted = shared_client.counted("sonarly")
    assert (counted["asked"], counted["count"]) == (1, 1)


async def test_twenty_parallel_requests_with_different_keys_make_twenty_copies(
    shared_client: Any,
) -> None:
    payloads = await asyncio.gather(*(shared_client.duplicate(SONARLY) for _ in range(20)))
    assert len({payload["campaign"]["id"] for payload in payloads}) == 20


@pytest.mark.parametrize(
    "other",
    [
        SONARLY.replace("Q3", "Q4"),
        TRIGGER,
        SONARLY.replace("sonarly: {", 'sonarly: { leadIds: ["507f1f77bcf86cd799439031"],'),
    ],
)
async def test_key_with_another_input_is_refused_as_reused(shared_client: Any, other: str) -> None:
    key = str(uuid.uuid4())
    first = await shared_client.duplicate(SONARLY, key)
    reused = await shared_client.duplicate(other, key)

    assert reused["status"] == "NOT_SENT"
    assert reused["duplication"] is None
    (error,) = reused["userErrors"]
    assert error["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert error["field"] == ["idempotencyKey"]
    assert error["retry"] == "NO"
    again = await shared_client.duplicate(SONARLY, key)
    assert again["duplication"]["id"] == first["duplication"]["id"]


async def test_key_with_another_input_is_refused_while_the_first_call_runs(
    shared_client: Any,
) -> None:
    key = str(uuid.uuid4())
    first = asyncio.create_task(shared_client.duplicate(sonarly("slow"), key))
    await asyncio.sleep(0.5)
    reused = await shared_client.duplicate(SONARLY, key)
    assert reused["userErrors"][0]["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert (await first)["status"] == "CREATED"


async def test_omitted_null_and_default_account_are_the_same_input(shared_client: Any) -> None:
    key = str(uuid.uuid4())
    await shared_client.duplicate(SONARLY, key)
    spelled_out = SONARLY.replace("sonarly: {", 'sonarly: { account: "sonarly", leadIds: null,')
    again = await shared_client.duplicate(spelled_out, key)
    assert again["replayed"] is True
    assert again["status"] == "CREATED"


REFUSED = [
    (braze("not-found"), "CAMPAIGN_NOT_FOUND"),
    (braze("no-such-campaign"), "CAMPAIGN_NOT_FOUND"),
    (braze("invalid"), "INVALID_INPUT"),
    (braze("unauthorized"), "AUTHENTICATION_FAILED"),
    (braze("forbidden"), "PERMISSION_DENIED"),
    (braze("rate-limited"), "RATE_LIMITED"),
    (BRAZE.replace("name:", 'tagNames: ["no-such-tag"], name:'), "INVALID_INPUT"),
    (sonarly("not-found"), "CAMPAIGN_NOT_FOUND"),
    (sonarly("507f1f77bcf86cd799439012"), "CAMPAIGN_NOT_FOUND"),
    (sonarly("invalid"), "INVALID_INPUT"),
    (sonarly("unauthorized"), "AUTHENTICATION_FAILED"),
    (sonarly("forbidden"), "PERMISSION_DENIED"),
    (sonarly("conflict"), "CONFLICT"),
    (sonarly("audience-not-ready"), "CONFLICT"),
    (sonarly("unprocessable"), "INVALID_INPUT"),
    (sonarly("rate-limited"), "RATE_LIMITED"),
    (altcraft(12345), "CAMPAIGN_NOT_FOUND"),
    (altcraft(87), "CAMPAIGN_NOT_FOUND"),
    *(
        (altcraft(base + error, account), code)
        for account in ("altcraft", "altcraft-xml")
        for base in (8000, 9000)
        for error, code in {
            400: "INVALID_INPUT",
            401: "AUTHENTICATION_FAILED",
            402: "QUOTA_EXCEEDED",
            403: "PERMISSION_DENIED",
            404: "CAMPAIGN_NOT_FOUND",
            409: "CONFLICT",
            429: "RATE_LIMITED",
        }.items()
    ),
]


async def test_clear_error_of_the_provider_is_rejected_and_replayed(client: Any) -> None:
    for fields, code in REFUSED:
        key = str(uuid.uuid4())
        payload = await client.duplicate(fields, key)
        (error,) = payload["userErrors"]
        assert (payload["status"], error["code"]) == ("REJECTED", code), fields
        assert error["retry"] == "NEW_KEY"
        assert payload["campaign"] is None
        assert payload["duplication"]["settledAt"] is not None
        assert payload["duplication"]["error"] == {"code": code}
        again = await client.duplicate(fields, key)
        assert (again["status"], again["replayed"]) == ("REJECTED", True)
    for provider in client.sandbox.emulators:
        assert client.counted(provider)["count"] == 0


async def test_rate_limit_returns_the_seconds_to_wait(client: Any) -> None:
    for fields in (braze("rate-limited"), sonarly("rate-limited")):
        payload = await client.duplicate(fields)
        assert 0 < payload["userErrors"][0]["retryAfterSeconds"] <= 60


UNKNOWN = [
    braze("error-500"),
    braze("error-503"),
    braze("redirect"),
    sonarly("error-500"),
    sonarly("error-502"),
    sonarly("redirect"),
    altcraft(9440),
    altcraft(8440),
    altcraft(9500),
    altcraft(8500),
    altcraft(9500, "altcraft-xml"),
]
CUT = ["cut-before-copy", "cut-after-copy", "garbage"]


async def test_unclear_response_is_unknown_and_never_sent_again(client: Any) -> None:
    unclear = UNKNOWN + [make(fault) for fault in CUT for make in (braze, sonarly)]
    unclear += [altcraft(9003), altcraft(9004), altcraft(9006, "altcraft-xml"), altcraft(9007)]
    for fields in unclear:
        key = str(uuid.uuid4())
        provider = fields.split(":")[0]
        before = client.counted(provider)["asked"]
        payload = await client.duplicate(fields, key)
        (error,) = payload["userErrors"]
        assert (payload["status"], error["code"]) == ("UNKNOWN", "OUTCOME_UNKNOWN"), fields
        assert error["retry"] == "WAIT"
        assert payload["duplication"]["settledAt"] is None
        again = await client.duplicate(fields, key)
        assert again["replayed"] is True
        assert again["status"] in {"UNKNOWN", "CREATED"}
        assert client.counted(provider)["asked"] == before + 1, fields


async def test_provider_that_hangs_makes_the_outcome_unknown(client: Any) -> None:
    payloads = await asyncio.gather(
        *(client.duplicate(fields) for fields in (braze("hang"), sonarly("hang"), altcraft(9002)))
    )
    for payload in payloads:
        assert payload["status"] == "UNKNOWN"
        assert payload["userErrors"][0]["code"] == "OUTCOME_UNKNOWN"


async def test_success_without_a_readable_body_is_accepted_if_the_status_is_specific(
    client: Any,
) -> None:
    """The statuses 201 and 202 alone mean success. Altcraft's 200 does not."""
    for fault in ("empty", "unreadable", "cut-in-response"):
        assert (await client.duplicate(braze(fault)))["status"] == "ACCEPTED"
        assert (await client.duplicate(sonarly(fault)))["status"] == "ACCEPTED"
    for number in (9005, 9007, 9008):
        assert (await client.duplicate(altcraft(number)))["status"] == "UNKNOWN"


@pytest.mark.parametrize(
    "fields",
    [
        braze("cut-after-copy"),
        sonarly("cut-after-copy"),
        altcraft(9004),
        altcraft(9004, "altcraft-xml"),
    ],
)
async def test_copy_whose_response_was_lost_is_found_by_reading(client: Any, fields: str) -> None:
    payload = await client.duplicate(fields, "lost-response")
    assert payload["status"] == "UNKNOWN"

    await settled(client, payload["duplication"]["id"])

    again = await client.duplicate(fields, "lost-response")
    counted = client.counted(fields.split(":", maxsplit=1)[0])
    assert (counted["asked"], counted["count"]) == (1, 1)
    assert again["status"] == "CREATED"
    assert again["replayed"] is True
    assert again["campaign"]["id"] == counted["copies"][0]["id"]
    assert again["duplication"]["evidence"] == "INFERRED"
    assert again["userErrors"] == []


@pytest.mark.parametrize(
    "fields", [braze("cut-before-copy"), sonarly("cut-before-copy"), altcraft(9003)]
)
async def test_copy_that_was_never_made_stays_unknown(client: Any, fields: str) -> None:
    payload = await client.duplicate(fields, "never-made")
    assert payload["status"] == "UNKNOWN"
    await asyncio.sleep(4)
    again = await client.duplicate(fields, "never-made")
    assert (again["status"], again["replayed"]) == ("UNKNOWN", True)
    counted = client.counted(fields.split(":", maxsplit=1)[0])
    assert (counted["asked"], counted["count"]) == (1, 0)


async def test_campaign_that_existed_before_is_not_taken_for_the_copy(client: Any) -> None:
    """Altcraft reports no creation times, so the gateway lists the campaigns before it copies."""
    older = await client.duplicate('altcraft: { account: "altcraft", campaignId: 96, name: "N" }')
    assert older["status"] == "CREATED"
    name = '{ account: "altcraft-xml", campaignId: %s, name: "N" }'
    lost = await client.duplicate(f"altcraft: {name % 9003}")
    assert lost["status"] == "UNKNOWN"
    await asyncio.sleep(4)
    assert (await watch(client, lost["duplication"]["id"]))["status"] == "UNKNOWN"


async def test_same_copy_with_a_new_key_is_refused_while_the_first_is_unknown(client: Any) -> None:
    fields = sonarly("cut-before-copy")
    lost = await client.duplicate(fields)
    again = await client.duplicate(fields)

    assert again["status"] == "NOT_SENT"
    assert again["campaign"] is None
    assert again["replayed"] is False
    (error,) = again["userErrors"]
    assert error["code"] == "UNRESOLVED_DUPLICATION"
    assert error["retry"] == "WAIT"
    assert again["duplication"]["id"] == lost["duplication"]["id"]
    assert again["duplication"]["status"] == "UNKNOWN"
    assert client.counted("sonarly")["asked"] == 1

    query = """mutation More($id: ID, $key: String!) { duplicateCampaign(
      input: { FIELDS }, idempotencyKey: $key, overrideDuplicationId: $id
    ) { status duplication { id } userErrors { code field } } }""".replace("FIELDS", fields)
    codes = {
        "": "INVALID_INPUT",
        "true": "INVALID_INPUT",
        "01890000-0000-7000-8000-000000000000": "UNRESOLVED_DUPLICATION",
    }
    for wrong, code in codes.items():
        data = await client.ask(query, id=wrong, key="more")
        (error,) = data["duplicateCampaign"]["userErrors"]
        assert error["code"] == code
    assert client.counted("sonarly")["asked"] == 1
    wanted = await client.ask(query, id=lost["duplication"]["id"].upper(), key="more")
    assert wanted["duplicateCampaign"]["status"] == "UNKNOWN"
    assert wanted["duplicateCampaign"]["duplication"]["id"] != lost["duplication"]["id"]
    assert client.counted("sonarly")["asked"] == 2


async def test_override_of_nothing_is_invalid_input(shared_client: Any) -> None:
    for wrong in ("", "true", "01890000-0000-7000-8000-000000000000"):
        data = await shared_client.ask(
            f"""mutation More($id: ID) {{ duplicateCampaign(
              input: {{ {SONARLY} }}, idempotencyKey: "k", overrideDuplicationId: $id
            ) {{ status duplication {{ id }} userErrors {{ code field }} }} }}""",
            id=wrong,
        )
        payload = data["duplicateCampaign"]
        (error,) = payload["userErrors"]
        assert (error["code"], error["field"]) == ("INVALID_INPUT", ["overrideDuplicationId"])
        assert payload["duplication"] is None
    assert shared_client.counted("sonarly")["asked"] == 0
    plain = """mutation Plain($id: ID) { duplicateCampaign(
      input: { FIELDS }, idempotencyKey: "k", overrideDuplicationId: $id) { status } }"""
    data = await shared_client.ask(plain.replace("FIELDS", SONARLY), id=None)
    assert data["duplicateCampaign"]["status"] == "CREATED"


HOSTILE = [
    "..",
    ".",
    "a/b",
    "../x",
    "x?y",
    "x#y",
    "%2e%2e",
    "a%2fb",
    "",
    " ",
    "a\r\nb",
    "é",
    "x" * 10_000,
]


async def test_malicious_ids_are_refused_before_a_provider_is_called(shared_client: Any) -> None:
    for text in HOSTILE:
        hostile = json.dumps(text)
        ids = f'accountGroupId: "g", campaignId: "c", audienceId: {hostile}'
        for fields, field in [
            (braze(text), ["input", "braze", "campaignId"]),
            (sonarly(text), ["input", "sonarly", "campaignId"]),
            (f"sonarly: {{ {ids} }}", ["input", "sonarly", "audienceId"]),
            (
                f'sonarly: {{ accountGroupId: {hostile}, campaignId: "c", audienceId: "a" }}',
                ["input", "sonarly", "accountGroupId"],
            ),
            (
                f'sonarly: {{ {GROUP}, campaignId: "c", leadIds: [{hostile}] }}',
                ["input", "sonarly", "leadIds"],
            ),
        ]:
            payload = await shared_client.duplicate(fields)
            (error,) = payload["userErrors"]
            assert (error["code"], error["field"]) == ("INVALID_INPUT", field), fields
            assert payload["duplication"] is None
    for number in (0, -1):
        payload = await shared_client.duplicate(altcraft(number))
        assert payload["userErrors"][0]["field"] == ["input", "altcraft", "campaignId"]
    for provider in shared_client.sandbox.emulators:
        assert shared_client.counted(provider)["asked"] == 0


@pytest.mark.parametrize("key", ["", " ", "k" * 129, "with space", "schlüssel", "\ud800"])
async def test_malformed_idempotency_key_is_invalid_input(shared_client: Any, key: str) -> None:
    payload = await shared_client.duplicate(SONARLY, key)
    (error,) = payload["userErrors"]
    assert (error["code"], error["field"]) == ("INVALID_INPUT", ["idempotencyKey"])
    assert payload["duplication"] is None


async def test_account_that_is_unknown_or_ambiguous_is_refused(shared_client: Any) -> None:
    for fields in (
        SONARLY.replace("sonarly: {", 'sonarly: { account: "no-such-account",'),
        SONARLY.replace("sonarly: {", 'sonarly: { account: "braze",'),
        "altcraft: { campaignId: 96 }",
    ):
        payload = await shared_client.duplicate(fields)
        (error,) = payload["userErrors"]
        assert error["code"] == "UNKNOWN_ACCOUNT"
        assert error["field"] == ["input", fields.split(":")[0], "account"]
        assert payload["status"] == "NOT_SENT"
        assert error["retry"] == "SAME_KEY"


async def test_altcraft_copy_is_active_only_if_requested(shared_client: Any) -> None:
    query = 'query Read($id: ID!) { campaign(account: "altcraft", id: $id) { status } }'
    for option, status in [
        ("", "PAUSED"),
        (", isActive: false", "PAUSED"),
        (", isActive: true", "ACTIVE"),
    ]:
        fields = f'altcraft: {{ account: "altcraft", campaignId: 96{option} }}'
        payload = await shared_client.duplicate(fields)
        duplication = await shared_client.ask(query, id=payload["campaign"]["id"])
        assert duplication["campaign"]["status"] == status, option


async def test_secrets_are_in_no_response_no_log_and_no_ledger_file(
    client: Any, ledger_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    payloads = [
        await client.duplicate(fields)
        for fields in (BRAZE, SONARLY, TRIGGER, XML, braze("unauthorized"), altcraft(9401))
    ]
    accounts = client.sandbox.settings.accounts
    for name, account in accounts.items():
        document = examples.mutation(CONNECTORS[account.provider], name)
        payloads.append(await client.ask(document, idempotencyKey=f"secret-{name}"))
    secrets = {secret for account in accounts.values() for secret in account.secrets()}
    assert len(secrets) > len(CONNECTORS)
    files = [path for path in ledger_path.parent.iterdir() if path.is_file()]
    assert ledger_path in files
    written = b"".join(path.read_bytes() for path in files).decode("latin-1")
    assert "Wave two" in written
    for secret in secrets:
        assert secret not in json.dumps(payloads)
        assert secret not in written
        assert secret not in caplog.text
        assert secret not in repr(client.sandbox.settings)
    unauthorized = payloads[4]["userErrors"][0]
    assert unauthorized["providerMessage"] == "Invalid API key: [redacted]"


async def test_payload_has_what_was_copied_too_and_keeps_it(shared_client: Any) -> None:
    query = """mutation Copy($key: String!) { duplicateCampaign(idempotencyKey: $key, input: {
      meta: { campaignId: "120210000000000101", deepCopy: true, name: "Wave two" } }) {
        replayed campaign { id name } copiedObjects { type sourceId copyId }
        duplication { copiedObjects { copyId } } } }"""
    first = (await shared_client.ask(query, key="deep"))["duplicateCampaign"]
    assert [each["type"] for each in first["copiedObjects"]] == ["ad_set", "ad"]
    assert all(each["copyId"] != first["campaign"]["id"] for each in first["copiedObjects"])
    assert first["campaign"]["name"] == "Wave two"
    again = (await shared_client.ask(query, key="deep"))["duplicateCampaign"]
    assert again == {**first, "replayed": True}
    assert [each["copyId"] for each in again["duplication"]["copiedObjects"]] == [
        each["copyId"] for each in first["copiedObjects"]
    ]


async def test_warning_names_the_option_that_was_not_applied(shared_client: Any) -> None:
    query = """mutation Copy($key: String!) { duplicateCampaign(idempotencyKey: $key, input: {
      omnisend: { campaignId: "rename-refused", name: "Wave two", subject: "Again" } }) {
        status campaign { name } warnings { code field message } userErrors { code } } }"""
    payload = (await shared_client.ask(query, key="refused"))["duplicateCampaign"]
    assert (payload["status"], payload["userErrors"]) == ("CREATED", [])
    assert [(each["code"], each["field"]) for each in payload["warnings"]] == [
        ("NAME_NOT_APPLIED", None),
        ("NOT_APPLIED", ["input", "omnisend", "subject"]),
    ]
    assert shared_client.counted("omnisend")["count"] == 1


async def test_limit_of_a_deep_copy_is_explained(shared_client: Any) -> None:
    payload = await shared_client.duplicate(
        'meta: { campaignId: "120210000000000103", deepCopy: true, name: "Everything" }'
    )
    (error,) = payload["userErrors"]
    assert (payload["status"], error["code"]) == ("REJECTED", "INVALID_INPUT")
    assert error["field"] == ["input", "meta", "deepCopy"]
    assert "at most three ad sets and ads" in error["message"]
