"""Decides what a response to the copying call proves, and holds the messages about it."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from campaign_gateway.connectors.contract import ProviderResponse
from campaign_gateway.connectors.parsing import json_object
from campaign_gateway.model import (
    Accepted,
    Campaign,
    CopyWarning,
    Created,
    ErrorCode,
    Failure,
    Rejected,
    Unknown,
    UserError,
    WarningCode,
)

# Statuses with which a provider rejects a call before it does anything. Every other status that is
# no success, 408, 425 and 503 included, leaves it open whether a copy was made.
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
    # A server sends 414, 426 and 431 when it has read only the head of a request.
    414: ErrorCode.INVALID_INPUT,
    415: ErrorCode.INVALID_INPUT,
    422: ErrorCode.INVALID_INPUT,
    426: ErrorCode.PROVIDER_UNAVAILABLE,
    429: ErrorCode.RATE_LIMITED,
    431: ErrorCode.INVALID_INPUT,
}

# Every code that a response can lead to. The gateway alone sets the others.
MESSAGES: Mapping[ErrorCode, str] = {
    ErrorCode.INVALID_INPUT: "{title} rejected the input, so there is no copy. Correct the input, "
    "then request the copy again.",
    ErrorCode.CAMPAIGN_NOT_FOUND: "{title} does not know the campaign, or another id in the input, "
    "in this account. Check the ids and the account.",
    ErrorCode.AUTHENTICATION_FAILED: "{title} rejected the account's secret. The operator of the "
    "gateway must check the secret and the base URL.",
    ErrorCode.PERMISSION_DENIED: "{title} does not allow this account to copy the campaign. The "
    "administrator of the account at {title} must grant the permission.",
    ErrorCode.QUOTA_EXCEEDED: "The account's plan at {title} allows no more campaigns, or no more "
    "calls for now. Extend the plan, delete campaigns that are no longer needed, or wait.",
    ErrorCode.CONFLICT: "The campaign, or an object that it needs, is in a state at {title} that "
    "forbids copying now. Change that state, then request the copy again.",
    ErrorCode.RATE_LIMITED: "{title} accepts no more calls of this account for now, so there is no "
    "copy. Wait, then request the copy again.",
    ErrorCode.PROVIDER_UNAVAILABLE: "{title} did not process the call: it is unavailable now, or "
    "it does not offer the call at the configured address. Try again later.",
    ErrorCode.OUTCOME_UNKNOWN: "The response of {title} was not clear: the copy may or may not "
    "exist. Wait for the result, or check at {title}, before you request another copy.",
}

# Each message with its ends: while the gateway still tries, and when the warning is final.
WARNINGS: Mapping[WarningCode, tuple[str, str, str]] = {
    WarningCode.NAME_NOT_APPLIED: (
        "The copy exists, but {title} has not given it the requested name.",
        " The gateway tries again for ten minutes.",
        " Rename it at {title}. Do not request another copy.",
    ),
    WarningCode.NOT_APPLIED: (
        "The copy exists, but {title} has not applied `{field}`.",
        " The gateway tries again for ten minutes.",
        " Set it at {title}. Do not request another copy.",
    ),
    WarningCode.DETAILS_UNKNOWN: (
        "The copy exists, but {title} has returned only its id.",
        " The gateway tries again for ten minutes.",
        " Check the copy at {title}. Do not request another copy.",
    ),
    WarningCode.PARTIAL_COPY: (
        "The copy exists, but {title} did not copy everything. Compare it with its source.",
        "",
        "",
    ),
    WarningCode.PROVIDER_WARNING: ("The copy exists, and {title} returned a warning.", "", ""),
}


def warning(
    title: str,
    code: WarningCode,
    provider_message: str | None = None,
    *,
    is_final: bool = False,
    field: tuple[str, ...] | None = None,
) -> CopyWarning:
    message, while_pending, when_final = WARNINGS[code]
    name = field[-1] if field else ""
    message = (message + (when_final if is_final else while_pending)).format(
        title=title, field=name
    )
    return CopyWarning(code, message, _printable(provider_message), is_final, field)


def provider_warnings(title: str, provider_messages: Iterable[str]) -> tuple[CopyWarning, ...]:
    return tuple(
        warning(title, WarningCode.PROVIDER_WARNING, message) for message in provider_messages
    )


def success(
    response: ProviderResponse,
    copy: Campaign | None,
    source_id: str,
    *,
    documented: int | None = 201,
    trace_id: str | None = None,
    warnings: tuple[CopyWarning, ...] = (),
) -> Created | Accepted | None:
    """Return what a success proves, or None if the response proves no copy.

    `copy` is the campaign in the body, None if the body has none. The source is never its own copy;
    ids that differ only in upper and lower case are the same. `documented` is the status with which
    the provider documents a copy: it is the provider's yes, even if the body is unreadable. Any
    other success without a copy is undocumented and might come from a proxy. None if the provider's
    yes is only in the body.
    """
    if not response.is_success:
        return None
    if copy is not None and copy.id.lower() != source_id.lower():
        return Created(copy, trace_id, warnings)
    return Accepted(trace_id) if response.status == documented else None


def failure(
    title: str,
    response: ProviderResponse,
    code: ErrorCode | None = None,
    *,
    provider_code: str | None = None,
    provider_message: str | None = None,
    retry_after: int | None = None,
    trace_id: str | None = None,
) -> Failure:
    """Return what a response that proves no success means: by `code`, or else by its status.

    `retry_after` is in seconds, for a provider that has it in the body. If it is None, the headers
    are parsed.
    """
    if response.status == 404 and not code and json_object(response) is None:
        # The provider's own 404 has a body in JSON. This one is a proxy's, or the address is wrong.
        code = ErrorCode.PROVIDER_UNAVAILABLE
    code = code or REFUSALS.get(response.status, ErrorCode.OUTCOME_UNKNOWN)
    is_limited = code is ErrorCode.RATE_LIMITED
    if is_limited and retry_after is None:
        retry_after = parse_retry_after(response.headers, datetime.now(UTC))
    error = UserError(
        code,
        MESSAGES[code].format(title=title),
        retry_after=_bounded(retry_after) if is_limited else None,
        provider_code=(provider_code or str(response.status))[:100],
        provider_message=_printable(provider_message),
    )
    return (
        Unknown(error, trace_id) if code is ErrorCode.OUTCOME_UNKNOWN else Rejected(error, trace_id)
    )


def _printable(message: str | None) -> str | None:
    if not message:
        return None
    return "".join(char if char.isprintable() else " " for char in message)[:200]


def parse_retry_after(headers: Mapping[str, str], now: datetime) -> int | None:
    """Return the seconds to wait, at most an hour, or None if the headers do not say.

    `Retry-After` is in seconds or a date. `X-RateLimit-Reset` or `RateLimit-Reset` is in epoch
    seconds or in seconds from now. Some providers send only the latter, and some send an empty
    string.
    """
    seconds: float | None = None
    after = headers.get("retry-after", "")
    reset = headers.get("x-ratelimit-reset") or headers.get("ratelimit-reset", "")
    if re.fullmatch(r"[0-9]{1,9}", after):
        seconds = int(after)
    elif after:
        try:
            seconds = (parsedate_to_datetime(after) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            seconds = None
    if seconds is None and re.fullmatch(r"[0-9]{1,11}", reset):
        # As epoch seconds such a small number would be a date before 2001-09-09.
        is_delay = int(reset) < 10**9
        seconds = int(reset) - (0 if is_delay else now.timestamp())
    return _bounded(seconds)


def _bounded(seconds: float | None) -> int | None:
    return None if seconds is None else max(0, min(3600, round(seconds)))
