"""What the gateway refuses by itself, each with what to do about it."""

import re

from campaign_gateway.model import ErrorCode, Refused, UserError

# What a refusal may name beside a field of the provider's input.
ARGUMENTS = {"idempotencyKey", "overrideDuplicationId"}

KEY_REUSED = UserError(
    ErrorCode.IDEMPOTENCY_KEY_REUSED,
    "This idempotency key was used with another input. Use a new key for a new intent.",
    field=("idempotencyKey",),
)

KEY_EXPIRED = UserError(
    ErrorCode.IDEMPOTENCY_KEY_EXPIRED,
    "This idempotency key was used so long ago that what became of it is not kept. Nothing was "
    "sent. Look whether the copy exists, and use a new key for a new intent.",
    field=("idempotencyKey",),
)
UNRESOLVED = UserError(
    ErrorCode.UNRESOLVED_DUPLICATION,
    "An earlier attempt at the same copy (`duplication`) has made it, or has an unknown result. "
    "Nothing was sent now. Wait until it is settled. To make another copy anyway, look at the "
    "provider first, then pass its id as `overrideDuplicationId` while it is UNKNOWN.",
)
OVERRIDE_ALREADY_USED = UserError(
    ErrorCode.UNRESOLVED_DUPLICATION,
    "One more copy was asked for in spite of `duplication` already. Nothing was sent now. Whoever "
    "runs the gateway can settle it, with what they have found at the provider.",
    field=("overrideDuplicationId",),
)
OVERRIDE_NOT_APPLICABLE = UserError(
    ErrorCode.INVALID_INPUT,
    "overrideDuplicationId is not the newest UNKNOWN duplication of this copy, or it has been settled "
    "meanwhile. Nothing was sent. Look at it again.",
    field=("overrideDuplicationId",),
)
LEDGER_UNWRITABLE = UserError(
    ErrorCode.OVERLOADED,
    "The gateway cannot record anything at the moment, so it sent nothing. Try again with the "
    "same idempotency key.",
)
LEDGER_UNREADABLE = UserError(
    ErrorCode.OUTCOME_UNKNOWN,
    "The gateway cannot look into its ledger at the moment, so it does not know whether this "
    "idempotency key has made a copy before. It sent nothing now. Ask again with the same key.",
)
SHUTTING_DOWN = UserError(
    ErrorCode.OVERLOADED,
    "The gateway is shutting down and sent nothing. Try again with the same idempotency key.",
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
                "idempotencyKey must be 1 to 128 visible ASCII characters; a UUID serves well.",
                field=("idempotencyKey",),
            )
        )
