"""What the gateway reports when it knows something: one function for each kind of event.

Each function writes the log line and counts. Texts of callers and providers are fields of a line,
never names or labels of anything: ids, messages and codes of others are unbounded.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from campaign_gateway.model import Duplication, DuplicationStatus, ErrorCode, UserError
from campaign_gateway.observe import metrics
from campaign_gateway.observe.health import Health, counted

log = logging.getLogger(__name__)


class SettledBy(StrEnum):
    """How the gateway has learned an outcome."""

    ATTEMPT = "attempt"
    SEARCH = "search"
    PROGRESS = "progress"
    TAKEOVER = "takeover"


class ProviderCall(StrEnum):
    COPY = "copy"
    SEARCH = "search"
    LOOKUP = "lookup"
    RENAME = "rename"
    PROGRESS = "progress"
    CHECK = "check"
    TOKEN = "token"  # noqa: S105 - the name of a call
    OTHER = "other"


class CallFailure(StrEnum):
    """Why a call to a provider got no status."""

    NO_CONNECTION = "no_connection"
    TLS = "tls"
    FORBIDDEN_ADDRESS = "forbidden_address"
    TIMEOUT = "timeout"
    CLOSED = "closed"
    # The gateway itself ended the call, for example because its caller's time was over.
    CANCELLED = "cancelled"
    MALFORMED_REQUEST = "malformed_request"


UNREACHABLE = "UNREACHABLE"
NO_RESPONSE = "NO_RESPONSE"
SEARCH_FAILED = "SEARCH_FAILED"
COPY_INCOMPLETE = "COPY_INCOMPLETE"
LEDGER_UNAVAILABLE = "LEDGER_UNAVAILABLE"
NO_NEW_INTENTS = "NO_NEW_INTENTS"

# Codes that mean that something is wrong with an account, and not with one request.
_OF_REFUSALS = {
    ErrorCode.AUTHENTICATION_FAILED,
    ErrorCode.PERMISSION_DENIED,
    ErrorCode.RATE_LIMITED,
}
_OF_OUTCOMES = _OF_REFUSALS | {ErrorCode.QUOTA_EXCEEDED}

# Failures of the gateway itself, which are no problem of the provider.
_OWN_FAILURES = {CallFailure.CANCELLED, CallFailure.MALFORMED_REQUEST}

# Statuses of a read that concern the account. Those of a copy are parsed by the connector.
_READ_REFUSALS = {
    401: ErrorCode.AUTHENTICATION_FAILED,
    403: ErrorCode.PERMISSION_DENIED,
}


def started(
    version: str,
    ledger: str,
    callers: Sequence[str],
    accounts: Mapping[str, str],
    packages: Mapping[str, str],
) -> None:
    """Report what a starting gateway serves. `accounts` maps their names to their providers.

    `packages` has the package of each provider whose connector is not built in.
    """
    metrics.show_build(version, ledger)
    log.info(
        "campaign-gateway %s starts with %s, %s and %s",
        version,
        ledger,
        counted(len(callers), "caller"),
        counted(len(accounts), "account"),
        extra={
            "fields": {
                "event": "started",
                "version": version,
                "ledger": ledger,
                "callers": callers,
                "accounts": accounts,
                "packages": packages,
            }
        },
    )


def outcome_settled(
    duplication: Duplication,
    by: SettledBy,
    now: datetime,
    *,
    http_status: int | None = None,
    health: Health | None = None,
) -> None:
    """Report the outcome of an attempt, as recorded. `now` is a time of the ledger's clock.

    `http_status` is the provider's, None if it sent none. `health` is the account's, if it is
    configured.
    """
    intent, error, copy = duplication.intent, duplication.error, duplication.campaign
    metrics.count_duplication(intent.account, duplication.status, duplication.evidence)
    if error is not None:
        metrics.count_error(intent.account, error.code)
    level = logging.WARNING if duplication.status is DuplicationStatus.UNKNOWN else logging.INFO
    if log.isEnabledFor(level):
        log.log(
            level,
            "duplication %s is %s%s",
            intent.id,
            duplication.status,
            f" as {copy.id}" if copy else f": {error.code}" if error else "",
            extra={
                "fields": {
                    "event": "outcome",
                    "duplication": intent.id,
                    "status": duplication.status,
                    "provider": intent.provider,
                    "account": intent.account,
                    "source": intent.source_campaign_id,
                    "copy": copy and copy.id,
                    "caller": intent.caller,
                    "person": intent.person,
                    "by": by,
                    "evidence": duplication.evidence,
                    "code": error and error.code,
                    "reason": error and error.message,
                    "http_status": http_status,
                    "provider_code": error and error.provider_code,
                    "provider_message": error and error.provider_message,
                    "provider_trace_id": duplication.provider_trace_id,
                    "milliseconds": _milliseconds((now - duplication.requested_at).total_seconds()),
                }
            },
        )
    if health is None or by is not SettledBy.ATTEMPT:
        return
    if error is None:
        health.works(*_OF_OUTCOMES)
    elif error.code in _OF_OUTCOMES:
        health.fails(error.code, _refusal(ProviderCall.COPY, error))
    if error is not None and error.code is ErrorCode.OUTCOME_UNKNOWN:
        reason = f"the outcome of duplication {intent.id} is unknown: {error.message}"
        health.fails(error.code, reason)
    else:
        health.works(ErrorCode.OUTCOME_UNKNOWN)


def refused(
    error: UserError,
    *,
    caller: str | None,
    person: str | None,
    provider: str,
    requested_account: str | None,
    source: str,
    blocked_by: Duplication | None = None,
    health: Health | None = None,
) -> None:
    """Report a request for a copy that made no record.

    `requested_account` is what the caller wrote. `health` is that of the account if there is one;
    only its fields are names that the operator has chosen. `blocked_by` is the duplication that
    prevents this copy.
    """
    account = health.fields.get("account") if health else None
    metrics.count_error(account, error.code)
    if log.isEnabledFor(logging.INFO):
        log.info(
            "a copy is refused: %s",
            error.code,
            extra={
                "fields": {
                    "event": "refused",
                    "code": error.code,
                    "reason": error.message,
                    "provider": provider,
                    "account": account,
                    "requested_account": requested_account if account is None else None,
                    "source": source,
                    "caller": caller,
                    "person": person,
                    "blocked_by": blocked_by and blocked_by.intent.id,
                    "retry_after_seconds": error.retry_after,
                }
            },
        )
    if health is not None and error.code in _OF_REFUSALS:
        health.fails(error.code, _refusal(ProviderCall.COPY, error))


def replayed(duplication: Duplication) -> None:
    """Report a request whose key had a record already: the caller got that one."""
    if log.isEnabledFor(logging.INFO):
        intent = duplication.intent
        log.info(
            "duplication %s is replayed",
            intent.id,
            extra={
                "fields": {
                    "event": "replayed",
                    "duplication": intent.id,
                    "status": duplication.status,
                    "provider": intent.provider,
                    "account": intent.account,
                    "caller": intent.caller,
                }
            },
        )


def provider_called(
    health: Health,
    call: ProviderCall,
    seconds: float,
    *,
    http_status: int | None = None,
    failure: CallFailure | None = None,
    reason: str = "",
    was_sent: bool = False,
) -> None:
    """Report one call to a provider, after its response or failure.

    Either `http_status` or `failure` is set. `reason` is the failure for people. `was_sent`:
    bytes may have reached the provider.
    """
    result = http_status if failure is None else failure
    if result is not None:
        metrics.observe_provider_call(health.fields["account"], call, seconds, result)
    if log.isEnabledFor(logging.DEBUG):
        fields = {
            "event": "provider_call",
            "call": call,
            "http_status": http_status,
            "failure": failure,
            "milliseconds": _milliseconds(seconds),
            **health.fields,
        }
        log.debug("call to a provider: %s", call, extra={"fields": fields})
    if failure is not None and failure not in _OWN_FAILURES:
        if not was_sent:
            health.fails(UNREACHABLE, f"the provider cannot be reached: {reason}")
        # The outcome of a copy is unknown then: `outcome_settled` reports it, with its id.
        elif call not in {ProviderCall.COPY, ProviderCall.CHECK}:
            health.fails(NO_RESPONSE, f"the provider does not respond to the call {call}: {reason}")
    elif http_status is not None:
        health.works(UNREACHABLE, NO_RESPONSE)
        # The connector parses the response to a copy, and a check reports what it has found.
        if call not in {ProviderCall.COPY, ProviderCall.CHECK}:
            _judge_read(health, call, http_status)


def _judge_read(health: Health, call: ProviderCall, http_status: int) -> None:
    code = _READ_REFUSALS.get(http_status)
    if code is not None:
        health.fails(f"{code} {call}", f"the provider refuses the call {call}: {http_status}")
    elif http_status < 300:
        health.works(*(f"{code} {call}" for code in _READ_REFUSALS.values()))


def search_failed(health: Health, duplication_id: str, reason: object) -> None:
    """Report a check of a duplication that gave no result. An unsettled one is checked again."""
    metrics.count_check(health.fields["account"], is_done=False)
    health.fails(SEARCH_FAILED, f"duplication {duplication_id} could not be checked: {reason}")


def search_done(health: Health) -> None:
    """Report a check of a duplication, with or without a copy."""
    metrics.count_check(health.fields["account"], is_done=True)
    health.works(SEARCH_FAILED)


def completion_failed(health: Health, duplication_id: str, reason: object) -> None:
    """Report a step of the completion that failed. It is tried again for some minutes."""
    message = f"the copy of duplication {duplication_id} is not complete yet: {reason}"
    health.fails(COPY_INCOMPLETE, message)


def completion_done(health: Health, duplication: Duplication) -> None:
    """Report that the copy is recorded as complete, or as one that a person must complete."""
    final = [warning.code for warning in duplication.warnings if warning.is_final]
    if not final:
        health.works(COPY_INCOMPLETE)
        return
    fields = {
        "event": "copy_incomplete",
        "duplication": duplication.intent.id,
        "copy": duplication.campaign and duplication.campaign.id,
        "warnings": final,
        **health.fields,
    }
    log.warning(
        "the copy of duplication %s stays incomplete: %s",
        duplication.intent.id,
        ", ".join(final),
        extra={"fields": fields},
    )


def ledger_failed(health: Health, reason: object, *, is_intent: bool = False) -> None:
    """Report that the ledger could not be used, or only that it took no new intent."""
    if is_intent:
        health.fails(NO_NEW_INTENTS, f"takes no new intents: {reason}")
    else:
        health.fails(LEDGER_UNAVAILABLE, f"cannot be used: {reason}")


def ledger_worked(health: Health, *, is_intent: bool = False) -> None:
    """Report that the ledger has been used, or also that it took a new intent."""
    health.works(LEDGER_UNAVAILABLE, *([NO_NEW_INTENTS] if is_intent else []))


def taken_over(duplications: Iterable[Duplication], now: datetime) -> None:
    """Report attempts whose gateway has stopped, which are UNKNOWN now.

    `now` is a time of the ledger's clock.
    """
    for duplication in duplications:
        outcome_settled(duplication, SettledBy.TAKEOVER, now)


def _refusal(call: ProviderCall, error: UserError) -> str:
    quoted = [text for text in (error.provider_code, error.provider_message) if text]
    details = f" ({', '.join(quoted)})" if quoted else ""
    return f"the call {call} is refused with {error.code}{details}: {error.message}"


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)
