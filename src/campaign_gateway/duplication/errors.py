"""The errors of the gateway itself. Each message says what happened and what to do."""

import re

from campaign_gateway.model import ErrorCode, Refused, UserError

KEY_REUSED = UserError(
    ErrorCode.IDEMPOTENCY_KEY_REUSED,
    "This idempotency key was used with another input. Nothing was sent for this input. For a new "
    "copy, use a new key.",
    field=("idempotencyKey",),
)
KEY_EXPIRED = UserError(
    ErrorCode.IDEMPOTENCY_KEY_EXPIRED,
    "This idempotency key was used so long ago that the gateway no longer has its result. Nothing "
    "was sent now. Check at the provider whether the copy exists. For a new copy, use a new key.",
    field=("idempotencyKey",),
)
KEY_LOST = UserError(
    ErrorCode.IDEMPOTENCY_KEY_EXPIRED,
    "The gateway has lost its records of a period. In that period, a request with this idempotency "
    "key may have made a copy. Nothing was sent now. Check at the provider whether the copy "
    "exists. For a new copy, use a new UUID of version 7 as the key: it shows that the key was "
    "made after that period.",
    field=("idempotencyKey",),
)
UNRESOLVED = UserError(
    ErrorCode.UNRESOLVED_DUPLICATION,
    "An earlier request has made this copy, or its result is not known yet. Nothing was sent now. "
    "Wait until that result is known, or check at the provider whether the copy exists.",
)
UNRESOLVED_OF_ANOTHER = UserError(
    ErrorCode.UNRESOLVED_DUPLICATION,
    "Another caller has requested this copy, and the result of that request is still unknown. "
    "Nothing was sent now. Try again later with the same idempotency key.",
    retry_after=60,
)
OVERRIDE_ALREADY_USED = UserError(
    ErrorCode.UNRESOLVED_DUPLICATION,
    "`overrideDuplicationId` has already been used for this duplication. Nothing was sent now. An "
    "operator of the gateway can check at the provider and record the result.",
    field=("overrideDuplicationId",),
)
OVERRIDE_NOT_APPLICABLE = UserError(
    ErrorCode.INVALID_INPUT,
    "`overrideDuplicationId` is not the id of the newest UNKNOWN duplication of this copy, or the "
    "result of that duplication is known by now. Nothing was sent. Query the duplication again.",
    field=("overrideDuplicationId",),
)
MAY_NOT_COPY = UserError(
    ErrorCode.NOT_ALLOWED,
    "This caller may not copy campaigns. Nothing was sent. The operator of the gateway can add "
    '"copy" to the setting `may` of the caller.',
)
MAY_NOT_ACTIVATE = UserError(
    ErrorCode.NOT_ALLOWED,
    "This caller may not request copies that start active. Nothing was sent. Request a copy that "
    'does not start active, or ask the operator of the gateway to add "activate" to the setting '
    "`may` of the caller.",
)
TOO_MANY_RECORDS = UserError(
    ErrorCode.QUOTA_EXCEEDED,
    "This caller has reached the limit of what the gateway stores for it. Nothing was sent. The "
    "operator of the gateway can raise the caller's `records_limit` or `megabytes_limit`.",
)
LEDGER_UNWRITABLE = UserError(
    ErrorCode.OVERLOADED,
    "The gateway cannot record anything at the moment, so it sent nothing. Try again with the "
    "same idempotency key.",
)
LEDGER_DISK_FULL = UserError(
    ErrorCode.OVERLOADED,
    "The disk on which the gateway keeps its records is full, so it sent nothing. The operator of "
    "the gateway has to free space. Then try again with the same idempotency key.",
)
LEDGER_UNREADABLE = UserError(
    ErrorCode.OUTCOME_UNKNOWN,
    "The gateway cannot read its records at the moment, so it does not know whether this "
    "idempotency key has made a copy before. It sent nothing now. Try again with the same key.",
)
SHUTTING_DOWN = UserError(
    ErrorCode.OVERLOADED,
    "The gateway is shutting down and sent nothing. Try again with the same idempotency key.",
)
# Characters of an input as JSON in ASCII, which is how the ledger keeps it.
INPUT_LENGTH = 32 * 1024
INPUT_TOO_LONG = UserError(
    ErrorCode.INVALID_INPUT,
    f"The input has more than {INPUT_LENGTH} characters as JSON. Nothing was sent. Send shorter "
    "texts or lists.",
    field=("input",),
)
NEVER_SENT = UserError(
    ErrorCode.OVERLOADED,
    "The gateway could not record the request in time, so it sent nothing. Request the copy again, "
    "with a new idempotency key.",
)


def check_key(key: str) -> None:
    """Raises `Refused`."""
    if not re.fullmatch(r"[\x21-\x7e]{1,128}", key):
        raise Refused(
            UserError(
                ErrorCode.INVALID_INPUT,
                "idempotencyKey must be 1 to 128 visible ASCII characters, such as a UUID.",
                field=("idempotencyKey",),
            )
        )


def too_many_unknown(limit: int) -> UserError:
    message = (
        f"The results of {limit} requests of this caller are not known yet, and no more are "
        "allowed. Nothing was sent. Try again when the gateway or its operator has found some of "
        "these results."
    )
    return UserError(ErrorCode.QUOTA_EXCEEDED, message, retry_after=60)


def not_reached(title: str, failure: Exception) -> UserError:
    message = f"{title} could not be reached ({failure}). Nothing was sent. Try again."
    return UserError(ErrorCode.PROVIDER_UNAVAILABLE, message)


def outcome_unknown(what_happened: str) -> UserError:
    """`what_happened` is a clause, such as "The provider sent no response"."""
    return UserError(
        ErrorCode.OUTCOME_UNKNOWN,
        f"{what_happened}, so the copy may or may not exist. Wait for the result, or check at the "
        "provider, before you request another copy.",
    )
