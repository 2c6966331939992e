"""The errors of the gateway itself. Each message says what happened and what to do."""

import re

from campaign_gateway.model import ErrorCode, Refused, UserError

KEY_REUSED = UserError(
    ErrorCode.IDEMPOTENCY_KEY_REUSED,
    "This idempotency key was used with another input. Nothing was sent for this input. Use a new "
    "key for a new intent.",
    field=("idempotencyKey",),
)
KEY_EXPIRED = UserError(
    ErrorCode.IDEMPOTENCY_KEY_EXPIRED,
    "This idempotency key was used so long ago that the gateway no longer has its result. Nothing "
    "was sent now. Check at the provider whether the copy exists, and use a new key for a new "
    "intent.",
    field=("idempotencyKey",),
)
KEY_LOST = UserError(
    ErrorCode.IDEMPOTENCY_KEY_EXPIRED,
    "The gateway has lost the records of some time, in which this idempotency key may have made a "
    "copy. Nothing was sent now. Check at the provider whether the copy exists. For a new intent, "
    "use a new UUID of version 7 as the key: it shows that the key was made after that time.",
    field=("idempotencyKey",),
)
UNRESOLVED = UserError(
    ErrorCode.UNRESOLVED_DUPLICATION,
    "An earlier request has made this copy, or its result is still unknown. Nothing was sent now. "
    "Wait until the result is known. To make another copy anyway, check at the provider first. "
    "While the earlier `duplication` is UNKNOWN, send its id as `overrideDuplicationId`.",
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
    "operator of the gateway can settle the duplication after checking at the provider.",
    field=("overrideDuplicationId",),
)
OVERRIDE_NOT_APPLICABLE = UserError(
    ErrorCode.INVALID_INPUT,
    "`overrideDuplicationId` is not the newest UNKNOWN duplication of this copy, or that "
    "duplication has been settled in the meantime. Nothing was sent. Read the duplication again.",
    field=("overrideDuplicationId",),
)
MAY_NOT_COPY = UserError(
    ErrorCode.NOT_ALLOWED,
    "This caller may not copy campaigns. Nothing was sent. The operator of the gateway can add "
    '"copy" to the setting `may` of the caller.',
)
MAY_NOT_ACTIVATE = UserError(
    ErrorCode.NOT_ALLOWED,
    "This caller may not make copies that start active. Nothing was sent. Request a copy that does "
    'not, or let the operator of the gateway add "activate" to the setting `may` of the caller.',
)
TOO_MANY_RECORDS = UserError(
    ErrorCode.QUOTA_EXCEEDED,
    "The duplications of this caller occupy all the space that it may use in the gateway's ledger. "
    "Nothing was sent. The operator of the gateway can raise the caller's `records_limit` or "
    "`megabytes_limit`, or lower `keep_days`.",
)
LEDGER_UNWRITABLE = UserError(
    ErrorCode.OVERLOADED,
    "The gateway cannot record anything at the moment, so it sent nothing. Try again with the "
    "same idempotency key.",
)
LEDGER_DISK_FULL = UserError(
    ErrorCode.OVERLOADED,
    "The disk on which the gateway keeps its records is full, so it sent nothing. Its operator has "
    "to free space. Then try again with the same idempotency key.",
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
    "The gateway could not record the intent in time, so it sent nothing. Use a new key.",
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
        f"{limit} duplications of this caller are UNKNOWN, and no more are allowed. Nothing was "
        "sent. Try again when the gateway or an operator has settled some of them."
    )
    return UserError(ErrorCode.QUOTA_EXCEEDED, message, retry_after=60)


def not_reached(title: str, failure: Exception) -> UserError:
    message = f"{title} could not be reached ({failure}). Nothing was sent; try again."
    return UserError(ErrorCode.PROVIDER_UNAVAILABLE, message)


def outcome_unknown(what_happened: str) -> UserError:
    """`what_happened` is a clause, such as "The provider sent no response"."""
    return UserError(
        ErrorCode.OUTCOME_UNKNOWN,
        f"{what_happened}, so the copy may or may not exist. Wait for the result, or check at the "
        "provider, before you request another copy.",
    )
