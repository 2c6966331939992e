"""What a failed answer says for certain, what a copy lacks, and the words for both."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from campaign_gateway.connectors.contract import ProviderResponse
from campaign_gateway.connectors.parsing import read_json_object
from campaign_gateway.model import CopyWarning, ErrorCode, Rejected, Unknown, UserError, WarningCode

# Answers by which a provider plainly refuses before doing anything. Every other status that is no
# success, 408, 425 and 503 included, leaves open whether a copy was made.
REFUSALS: Mapping[int, ErrorCode] = {
    400: ErrorCode.INVALID_INPUT,
    401: ErrorCode.AUTHENTICATION_FAILED,
    402: ErrorCode.QUOTA_EXCEEDED,
    403: ErrorCode.PERMISSION_DENIED,
    404: ErrorCode.CAMPAIGN_NOT_FOUND,
    405: ErrorCode.PROVIDER_UNAVAILABLE,
    409: ErrorCode.CONFLICT,
    410: ErrorCode.CAMPAIGN_NOT_FOUND,
    413: ErrorCode.INVALID_INPUT,
    # A server sends 414, 426 and 431 after it has read no more than the head of a request.
    414: ErrorCode.INVALID_INPUT,
    415: ErrorCode.INVALID_INPUT,
    422: ErrorCode.INVALID_INPUT,
    426: ErrorCode.PROVIDER_UNAVAILABLE,
    429: ErrorCode.RATE_LIMITED,
    431: ErrorCode.INVALID_INPUT,
}

MESSAGES: Mapping[ErrorCode, str] = {
    ErrorCode.INVALID_INPUT: "{title} refused the input. Correct it and use a new key.",
    ErrorCode.CAMPAIGN_NOT_FOUND: "{title} does not know the campaign, or an id given with it, "
    "at this account.",
    ErrorCode.AUTHENTICATION_FAILED: "{title} refused the account's secret. Whoever runs the "
    "gateway must check the secret and the base URL.",
    ErrorCode.PERMISSION_DENIED: "{title} does not let this account copy the campaign. Whoever "
    "manages the account there must grant the permission.",
    ErrorCode.QUOTA_EXCEEDED: "The account's plan at {title} allows no further campaign, or no "
    "further call for now.",
    ErrorCode.CONFLICT: "The campaign, or what goes with it, is in a state at {title} that forbids "
    "copying it now.",
    ErrorCode.RATE_LIMITED: "{title} limits how often it may be called. Wait, then use a new "
    "idempotency key.",
    ErrorCode.PROVIDER_UNAVAILABLE: "{title} did not take the call: it is not available now, or "
    "does not offer the call at the configured address.",
    ErrorCode.OUTCOME_UNKNOWN: "{title} gave no clear answer, so the copy may or may not exist. "
    "Look at the duplication before asking for another copy.",
}

WARNINGS: Mapping[WarningCode, str] = {
    WarningCode.NAME_NOT_APPLIED: "The copy exists, but {title} has not given it the requested name. ",
    WarningCode.DETAILS_UNKNOWN: "The copy exists, but only its id is known: {title} has not told more. ",
    WarningCode.PARTIAL_COPY: "The copy exists, but {title} has not copied everything into it. "
    "Compare it with its source.",
    WarningCode.PROVIDER_WARNING: "The copy exists, and {title} has made a remark about it.",
}


# What then happens: while the gateway is still at it, and when it is not any more.
NEXT: Mapping[WarningCode, tuple[str, str]] = {
    WarningCode.NAME_NOT_APPLIED: (
        "The gateway goes on trying for ten minutes.",
        "Rename it there; do not ask for another copy.",
    ),
    WarningCode.DETAILS_UNKNOWN: (
        "The gateway goes on trying for ten minutes.",
        "Look at it there; do not ask for another copy.",
    ),
}


def warning(
    title: str, code: WarningCode, said: str | None = None, *, is_final: bool = False
) -> CopyWarning:
    """`said` are the provider's own words."""
    message = WARNINGS[code] + (NEXT[code][is_final] if code in NEXT else "")
    return CopyWarning(code, message.format(title=title), _shown(said), is_final)


def failure(
    title: str,
    response: ProviderResponse,
    code: ErrorCode | None = None,
    *,
    provider_code: str | None = None,
    provider_message: str | None = None,
    retry_after: int | None = None,
    trace_id: str | None = None,
) -> Rejected | Unknown:
    """The reading of an answer that is no success; without a code, by its status alone.

    `retry_after` is for a provider that tells in the body how many seconds to wait; without it the
    headers are read.
    """
    if response.status == 404 and not code and read_json_object(response) is None:
        # Not the provider's own words: a proxy's, or those of a server at a wrong address.
        code = ErrorCode.PROVIDER_UNAVAILABLE
    code = code or REFUSALS.get(response.status, ErrorCode.OUTCOME_UNKNOWN)
    limited = code is ErrorCode.RATE_LIMITED
    if limited and retry_after is None:
        retry_after = read_retry_after(response.headers, datetime.now(UTC))
    error = UserError(
        code,
        MESSAGES[code].format(title=title),
        retry_after=_bounded(retry_after) if limited else None,
        provider_code=(provider_code or str(response.status))[:100],
        provider_message=_shown(provider_message),
    )
    return (
        Unknown(error, trace_id) if code is ErrorCode.OUTCOME_UNKNOWN else Rejected(error, trace_id)
    )


def _shown(said: str | None) -> str | None:
    if not said:
        return None
    return "".join(each if each.isprintable() else " " for each in said)[:200]


def read_retry_after(headers: Mapping[str, str], now: datetime) -> int | None:
    """Seconds until the provider wants to hear from us again, at most an hour.

    `Retry-After` comes in seconds or as a date, `X-RateLimit-Reset` in epoch seconds or in seconds
    from now; some providers send the latter alone, at times as an empty string.
    """
    seconds: float | None = None
    after, reset = headers.get("retry-after", ""), headers.get("x-ratelimit-reset", "")
    if re.fullmatch(r"[0-9]{1,9}", after):
        seconds = int(after)
    elif after:
        try:
            seconds = (parsedate_to_datetime(after) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            seconds = None
    if seconds is None and re.fullmatch(r"[0-9]{1,11}", reset):
        # In epoch seconds, so small a number would be a day before 2001-09-09.
        is_a_delay = int(reset) < 10**9
        seconds = int(reset) - (0 if is_a_delay else now.timestamp())
    return _bounded(seconds)


def _bounded(seconds: float | None) -> int | None:
    return None if seconds is None else max(0, min(3600, round(seconds)))
