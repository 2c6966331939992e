"""One line of the log: what it contains, and what no text of others can do to it."""

import asyncio
import base64
import json
import logging
import re
import string
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from unittest.mock import ANY

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from campaign_gateway.accounts.transport.redaction import create_redactor
from campaign_gateway.observe import events
from campaign_gateway.observe.health import Health, account_health
from campaign_gateway.observe.log import (
    FIELD_LENGTH,
    FORMATTERS,
    TRACEBACK_LENGTH,
    JsonFormatter,
    TextFormatter,
)

SECRETS = ["sk_live_a\"b\\c'd_0123456789", "tok", "sk_live_2"]
HOSTILE = [
    'a\n{"level":"ERROR","message":"forged"}',
    "a\r\n2026-11-28T00:00:00.000+00:00 ERROR gateway forged",
    "\x1b]0;title\x07\x1b[2J\x9b31m",
    "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x00h",
    "\u202eright-to-left\u200b",
    "lone \ud800 surrogate",
    'quote " backslash \\ ',
    "x" * 5000,
]


def record(message: str, exception: Exception | None = None, **fields: object) -> logging.LogRecord:
    info = None if exception is None else (type(exception), exception, exception.__traceback__)
    made = logging.LogRecord("gateway", logging.INFO, __file__, 1, "%s", (message,), info)
    made.fields = fields
    return made


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_of_others_is_one_value_of_one_json_line(text: str) -> None:
    line = JsonFormatter().format(record(text, ValueError(text), source=text, items=[text]))
    assert line.isascii()
    assert line.isprintable()
    members = json.loads(line)
    assert members["message"] == members["source"] == text[:FIELD_LENGTH]
    assert members["level"] == "INFO"
    assert text[:100].splitlines()[0] in members["traceback"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_of_others_is_in_one_line_of_text(text: str) -> None:
    line = TextFormatter().format(record(text, source=text))
    assert line.isprintable()
    assert line.startswith("20")
    traced = TextFormatter().format(record("failed", ValueError(text)))
    first, *others = traced.split("\n")
    assert first.endswith("failed")
    assert others
    for other in others:
        assert other.startswith("    ")
        assert other.isprintable()


@pytest.mark.parametrize("formatter_type", FORMATTERS.values(), ids=FORMATTERS)
@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "a\n{}\nb", "key={}&x", '"{}"', "https://a.example/{}"])
def test_no_field_shows_a_secret(
    formatter_type: type[JsonFormatter], secret: str, around: str
) -> None:
    formatter = formatter_type()
    formatter.redact = create_redactor(SECRETS)
    text = around.format(secret)
    fields = {"source": text, "nested": {"texts": [text]}, "http_status": 201}
    line = formatter.format(record(text, ValueError(text), **fields))
    assert secret not in line
    assert json.dumps(secret)[1:-1] not in line
    assert line.count("[redacted]") >= 4
    assert "201" in line


@pytest.mark.parametrize(
    "text",
    [
        "The provided authorization grant is invalid, expired or revoked",
        "The provided authorization is invalid",
        "Missing Authorization header",
        "Missing Authorization. Please add it.",
        "Basic authentication is not allowed",
        "a basic plan has no copies",
        "BASIC ACCESS only",
        "api_key is invalid",
        "'api_key' is required.",
        "Bearer token expired",
        "Use Bearer <token>",
        "invalid access-token: [redacted], Bearer [redacted]",
    ],
)
def test_a_provider_s_plain_words_stay(text: str) -> None:
    assert json.loads(JsonFormatter().format(record("a", provider_message=text))) == {
        **json.loads(JsonFormatter().format(record("a"))),
        "time": ANY,
        "provider_message": text,
    }


def _tokens() -> st.SearchStrategy[str]:
    raw = st.binary(min_size=12, max_size=60)
    encoded = raw.map(lambda part: base64.urlsafe_b64encode(part).decode())
    return st.one_of(
        st.text(string.ascii_letters + string.digits, min_size=16, max_size=80),
        st.text(string.ascii_lowercase, min_size=16, max_size=40),
        raw.map(lambda part: base64.b64encode(part).decode()),
        raw.map(bytes.hex),
        encoded.map(lambda part: f"pk_{part}"),
        st.tuples(encoded, encoded, encoded).map(".".join),
        st.uuids().map(str),
    )


@given(_tokens())
@example("abcdef-abcdef-ab")
@pytest.mark.parametrize(
    "around",
    [
        "Bearer {}",
        "the bearer  {} is invalid",
        "Bearer token {} has expired",
        "Basic {}",
        "Authorization: Bearer {}",
        "Authorization: Klaviyo-API-Key {}",
        "authorization {} is invalid",
        "Authorization header {}",
        "[(b'authorization', b'Bearer {}')]",
        "('authorization', '{}')",
        "{{'Api-Token': '{}'}}",
        "api_key={}&page=1",
        "api_key: {}",
        "BRAZE_API_KEY={}",
        '{{"api_key":"{}"}}',
        '{{"apiKey" : "{}"}}',
        '{{\\"api_key\\": \\"{}\\"}}',
        "<api_key>{}</api_key>",
        "client_secret={}",
        "Cookie: {}",
    ],
)
def test_a_token_that_a_provider_has_issued_is_removed(around: str, token: str) -> None:
    line = JsonFormatter().format(record(around.format(token)))
    assert "[redacted]" in line
    assert not any(part in line for part in token.split(".") if len(part) > 3)


@pytest.mark.parametrize(
    "text",
    ["Authorization: Bearer x", "api_key=x", "api_key: x", '{"api_key":"x"}', "Basic dXNlcjpwYXNz"],
)
def test_a_short_secret_is_removed_where_nothing_else_can_be(text: str) -> None:
    message = json.loads(JsonFormatter().format(record(text)))["message"]
    assert message.rstrip('"}').endswith("[redacted]")


def test_a_number_that_is_a_secret_is_removed() -> None:
    formatter = JsonFormatter()
    formatter.redact = create_redactor(["201"])
    assert json.loads(formatter.format(record("a", http_status=201)))["http_status"] == "[redacted]"


def test_a_field_that_is_none_is_left_out() -> None:
    assert "code" not in json.loads(JsonFormatter().format(record("a", code=None)))


def test_a_long_traceback_keeps_its_end() -> None:
    text = "x" * (2 * TRACEBACK_LENGTH) + "the end"
    members = json.loads(JsonFormatter().format(record("a", ValueError(text))))
    assert len(members["traceback"]) == TRACEBACK_LENGTH
    assert members["traceback"].endswith("the end")


def test_a_line_of_text_has_the_fields_at_its_end() -> None:
    line = TextFormatter().format(record("a message", account="braze-eu", reason="two words"))
    assert re.fullmatch(
        r'\S+\+00:00 INFO gateway a message account=braze-eu reason="two words"', line
    )


@contextmanager
def lines_of(logger: str, caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    caplog.clear()
    lines: list[str] = []
    with caplog.at_level(logging.INFO, logger):
        yield lines
    lines += [each.getMessage() for each in caplog.records]


async def test_a_problem_that_comes_and_goes_is_one_problem(
    caplog: pytest.LogCaptureFixture,
) -> None:
    health = Health("account a:", quiet_seconds=3600, account="a")
    with lines_of("campaign_gateway", caplog) as lines:
        for _ in range(20):
            health.fails("RATE_LIMITED", "the limit is reached")
            health.works("RATE_LIMITED", "UNREACHABLE")
            # A timer that is due fires here.
            await asyncio.sleep(0.001)
    assert lines == ["account a: the limit is reached"]


async def test_a_problem_with_one_call_has_its_code_and_the_call_in_members_of_their_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    health = account_health("a", "sonarly", quiet_seconds=0)
    with lines_of("campaign_gateway", caplog) as lines:
        events.provider_called(health, events.ProviderCall.LOOKUP, 0, http_status=401)
        events.provider_called(health, events.ProviderCall.LOOKUP, 0, http_status=200)
        await asyncio.sleep(0.05)
    assert " AUTHENTICATION_FAILED lookup is over after 1 failure in 0 seconds" in lines[1]
    for each in caplog.records:
        fields = each.__dict__["fields"]
        assert (fields["problem"], fields["call"]) == ("AUTHENTICATION_FAILED", "lookup")


async def test_a_problem_that_lasts_is_repeated_after_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("campaign_gateway.observe.health.monotonic", lambda: now)
    health = Health("account a:", quiet_seconds=3600, account="a")
    with lines_of("campaign_gateway", caplog) as lines:
        for now in range(0, 1801, 60):
            health.fails("UNREACHABLE", f"after {now}")
    first, *repeated = caplog.records
    assert lines[0] == "account a: after 0"
    assert not first.__dict__["fields"].get("since")
    for seconds, line, each in zip((600, 1200, 1800), lines[1:], repeated, strict=True):
        fields = each.__dict__["fields"]
        number = 1 + seconds // 60
        assert fields["failures"] == number
        assert datetime.fromisoformat(fields["since"]).utcoffset() == timedelta(0)
        assert line == (f"account a: after {seconds} (since {fields['since']}, {number} failures)")
