"""The contract's enums, each value with what it means to a caller."""

from enum import StrEnum

from campaign_gateway.connectors.graphql import described_enum
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.model import (
    CampaignStatus,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Retry,
    WarningCode,
)

Provider = StrEnum("Provider", {name.upper(): name for name in sorted(CONNECTORS)})  # type: ignore[misc]
described_enum(
    Provider,
    "A marketing platform that the gateway can copy campaigns at.",
    {each: f"{CONNECTORS[each].title}." for each in Provider},
)

DUPLICATION_STATUSES = {
    DuplicationStatus.IN_PROGRESS: "The call is under way. Ask again, or repeat the mutation with "
    "the same idempotency key.",
    DuplicationStatus.UNKNOWN: "The provider gave no clear answer: the copy may or may not exist. "
    "The gateway reads the provider to find out and never sends the call again.",
    DuplicationStatus.ACCEPTED: "The provider has said yes, and has not named the copy or is not "
    "done with it. The gateway reads the provider until it knows.",
    DuplicationStatus.CREATED: "The copy exists and its id is known.",
    DuplicationStatus.REJECTED: "No copy was made, and none will be made for this idempotency key. "
    "The refusal is on record.",
}
described_enum(
    DuplicationStatus,
    "What has become of one intent to copy a campaign. It only ever moves towards CREATED or "
    "REJECTED.",
    DUPLICATION_STATUSES,
)


class DuplicateCampaignStatus(StrEnum):
    NOT_SENT = "NOT_SENT"
    IN_PROGRESS = "IN_PROGRESS"
    UNKNOWN = "UNKNOWN"
    ACCEPTED = "ACCEPTED"
    CREATED = "CREATED"
    REJECTED = "REJECTED"


PAYLOAD_STATUSES = {
    DuplicateCampaignStatus.NOT_SENT: "This request sent nothing to the provider and recorded "
    "nothing. It does not say whether another request with the same key makes a copy. Follow "
    "`userErrors.retry`.",
    **{DuplicateCampaignStatus(each): text for each, text in DUPLICATION_STATUSES.items()},
}
described_enum(
    DuplicateCampaignStatus,
    "The status of the duplication that the idempotency key stands for, or NOT_SENT when the "
    "request was refused without a record.",
    PAYLOAD_STATUSES,
)

RETRIES = {
    Retry.SAME_KEY: "Nothing is recorded under this key. Send exactly this request again with the "
    "same key, after a pause or after `retryAfterSeconds`. If the input is wrong, correct it and "
    "keep the key. With OUTCOME_UNKNOWN the gateway could not look: do not change the input.",
    Retry.NEW_KEY: "The refusal is on record: this key makes no copy, now or later, unless a "
    "person has said so by mistake. Correct what is wrong and use a new key.",
    Retry.WAIT: "A copy may exist. Do not use a new key. Look at `duplication` until it is "
    "settled: CREATED means that the copy exists. REJECTED means that it does not.",
    Retry.NO: "Do not retry: the key was used for another input, or too long ago. Check at the "
    "provider what exists before you start a new intent with a new key.",
}
described_enum(
    Retry,
    "What to do after an error. A client that follows it never makes two copies for one intent.",
    RETRIES,
    "DuplicateCampaignRetry",
)

described_enum(
    Evidence,
    "How the gateway knows the status of a duplication.",
    {
        Evidence.RESPONSE: "The provider's own answer to the call.",
        Evidence.INFERRED: "A campaign was found that is a copy of the same source, where the "
        "provider tells that, or else has the requested name; it was made no earlier than the call "
        "and belongs to no other duplication. A later answer of the provider can correct it.",
        Evidence.OPERATOR: "A person has looked and said so.",
    },
)

described_enum(
    CampaignStatus,
    "What a campaign does at its provider, in common words; `providerStatus` has the provider's.",
    {
        CampaignStatus.DRAFT: "Never started.",
        CampaignStatus.SCHEDULED: "Will start by itself.",
        CampaignStatus.ACTIVE: "Sending, or reacting to events.",
        CampaignStatus.PAUSED: "Not active now, and can be made so.",
        CampaignStatus.COMPLETED: "Done sending.",
        CampaignStatus.ARCHIVED: "Put away.",
        CampaignStatus.UNKNOWN: "Not said, or in a word that the gateway does not know.",
    },
)

ERROR_CODES = {
    ErrorCode.INVALID_INPUT: "The input cannot be used, by the gateway's or the provider's "
    "judgement; `field` names the culprit where it is known. Correct it, then follow `retry`.",
    ErrorCode.CAMPAIGN_NOT_FOUND: "The provider does not know the campaign, or another id given "
    "with it, at this account. Check the ids and the account.",
    ErrorCode.AUTHENTICATION_FAILED: "The provider refused the account's secret. Whoever runs the "
    "gateway must mend the configuration.",
    ErrorCode.PERMISSION_DENIED: "The account's secret lacks a permission. Whoever manages the "
    "account at the provider must grant it.",
    ErrorCode.QUOTA_EXCEEDED: "The account's plan allows no more campaigns. Extend it or clear "
    "something away.",
    ErrorCode.CONFLICT: "The campaign, or what goes with it, is in a state that forbids copying "
    "now. Change that state, then follow `retry`.",
    ErrorCode.RATE_LIMITED: "Too many calls. Wait `retryAfterSeconds` if given, then follow "
    "`retry`.",
    ErrorCode.OVERLOADED: "The gateway cannot take the call now. Try again with the same key.",
    ErrorCode.PROVIDER_UNAVAILABLE: "The provider could not be reached or does not offer the call. "
    "Try later; `retry` says with which key.",
    ErrorCode.OUTCOME_UNKNOWN: "A copy may or may not exist. Do not ask for another: watch "
    "`duplication(id)`, or look at the provider. If there is no duplication, the gateway could not "
    "look up the key: ask again with the same one.",
    ErrorCode.IDEMPOTENCY_KEY_REUSED: "The key stands for another input. Use a new key for a new "
    "intent; if this is a retry, send exactly the first input.",
    ErrorCode.IDEMPOTENCY_KEY_EXPIRED: "The key was used so long ago that what became of it is not "
    "kept. Look whether the copy exists; use a new key for a new intent.",
    ErrorCode.UNRESOLVED_DUPLICATION: "An earlier attempt at the same copy is still UNKNOWN: "
    "`duplication` of the payload. Nothing was sent. Wait until that one is settled.",
    ErrorCode.UNKNOWN_ACCOUNT: "No such account, or several to choose from. Name one of "
    "`Query.accounts`.",
}
described_enum(
    ErrorCode,
    "Why there is no copy, or none for certain. The list is closed. `retry` says whether to use "
    "the same key or a new one.",
    ERROR_CODES,
    "DuplicateCampaignErrorCode",
)


WARNING_CODES = {
    WarningCode.NAME_NOT_APPLIED: "It does not have the requested name, which takes a second call. The "
    "gateway tries for ten minutes, unless the provider refuses or the copy was only found by "
    "reading; after that, rename it there.",
    WarningCode.DETAILS_UNKNOWN: "Only its id is known: the provider could not be read so far.",
    WarningCode.PARTIAL_COPY: "The provider did not copy everything. Compare it with its source.",
    WarningCode.PROVIDER_WARNING: "The provider made a remark, `providerMessage`.",
}
described_enum(
    WarningCode,
    "What to know about a copy that exists. None of it is a reason to ask for another copy.",
    WARNING_CODES,
    "DuplicationWarningCode",
)


class Capability(StrEnum):
    FIND_COPY = "FIND_COPY"
    READ_CAMPAIGN = "READ_CAMPAIGN"


described_enum(
    Capability,
    "What the gateway can do with an account beside copying campaigns.",
    {
        Capability.FIND_COPY: "Look in the provider's list of campaigns for a copy whose id the "
        "provider did not tell. It is found by its source, where the provider tells that, or else "
        "by its name, if it was given one.",
        Capability.READ_CAMPAIGN: "Read a campaign by its id.",
    },
)
