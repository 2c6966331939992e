"""The GraphQL enums. Each value says what it means for a caller and what to do."""

from enum import StrEnum

from campaign_gateway.connectors.graphql import register_enum
from campaign_gateway.connectors.registry import CONNECTORS, offered, packages_of
from campaign_gateway.model import (
    CampaignStatus,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Retry,
    WarningCode,
)

PROVIDERS = {
    **{name: f"{connector.title}." for name, connector in CONNECTORS.items()},
    **{name: f"By the connector of {package}." for name, package in packages_of(offered()).items()},
    "other": "A provider for which this gateway has no connector. Another gateway with the same "
    "records has one, or this gateway had one before. A `DuplicationFilter` with it finds nothing.",
}
# mypy accepts only literal members.
Provider = StrEnum("Provider", {name.upper(): name for name in sorted(PROVIDERS)})  # type: ignore[misc]
register_enum(Provider, "A marketing platform at which the gateway can copy campaigns.", PROVIDERS)


def provider_named(name: str) -> Provider:
    return Provider(name if name in PROVIDERS else "other")


DUPLICATION_STATUSES = {
    DuplicationStatus.IN_PROGRESS: "The call to the provider is running. Query the duplication "
    "again, or repeat the mutation with the same idempotency key.",
    DuplicationStatus.UNKNOWN: "The provider gave no clear response: the copy may or may not "
    "exist. The gateway reads from the provider to find out. It never sends the call again.",
    DuplicationStatus.ACCEPTED: "The provider accepted the call, but has not returned the copy's "
    "id or has not finished the copy. The gateway reads from the provider until it knows the "
    "result.",
    DuplicationStatus.CREATED: "The copy exists and its id is known.",
    DuplicationStatus.REJECTED: "No copy was made, and this idempotency key never makes one. The "
    "error is recorded.",
}
register_enum(
    DuplicationStatus,
    "The state of one intent to copy a campaign. It moves towards CREATED or REJECTED. A later "
    "response of the provider can correct a status whose evidence is INFERRED or OPERATOR. If an "
    "operator withdraws a result that an operator recorded, the status is UNKNOWN again.",
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
    DuplicateCampaignStatus.NOT_SENT: "For this request, the gateway requested no copy from the "
    "provider and recorded nothing: the request was refused, or it was a dry run. Another request "
    "with the same key may make a copy, or may have made one. Follow `userErrors.retry`.",
    **{
        DuplicateCampaignStatus(status): description
        for status, description in DUPLICATION_STATUSES.items()
    },
}
register_enum(
    DuplicateCampaignStatus,
    "The status of the duplication that the idempotency key identifies. If the request was refused "
    "without a record, or was a dry run, it is NOT_SENT.",
    PAYLOAD_STATUSES,
)

RETRIES = {
    Retry.SAME_KEY: "This request recorded nothing. Send it again with the same key, after "
    "`retryAfterSeconds` or after a pause. If the input is wrong, correct it first and keep the "
    "key. Exception: with OUTCOME_UNKNOWN, the gateway could not look up the key, so send exactly "
    "the same input.",
    Retry.NEW_KEY: "The error is recorded: this key makes no copy, now or later, unless an "
    "operator recorded by mistake that there is no copy. Correct the cause and use a new key.",
    Retry.WAIT: "A copy may exist. Do not use a new key. Query `duplication` until it is settled: "
    "CREATED means that the copy exists, REJECTED means that it does not.",
    Retry.NO: "Do not retry: the key was used for another input, or too long ago, or the gateway "
    "has lost the records of the time in which it may have been used. Check at the provider what "
    "exists before you start a new intent with a new key.",
}
register_enum(
    Retry,
    "What to do after an error. A client that follows it never makes two copies for one intent.",
    RETRIES,
    "DuplicateCampaignRetry",
)

register_enum(
    Evidence,
    "How the gateway knows the status of a duplication.",
    {
        Evidence.RESPONSE: "The provider's own response to the call.",
        Evidence.INFERRED: "The gateway found the copy among the provider's campaigns. If the "
        "provider reports what a campaign was copied from, the source is the same. Otherwise the "
        "name is the requested one, or the one that the provider itself gives to a copy of the "
        "source. The copy was created at the time of the call or up to a day after it, or up to "
        "ten minutes after it if the gateway compared a name that the provider chose. If the "
        "provider reports no creation times, the copy was not in the list that the gateway read "
        "before the call. The copy belongs to no other duplication. A later response of the "
        "provider can correct this.",
        Evidence.OPERATOR: "An operator checked the provider and recorded the result. A later "
        "response of the provider can correct this, and an operator can withdraw it.",
    },
)

register_enum(
    CampaignStatus,
    "The status of a campaign, in terms that are the same for every provider. `providerStatus` has "
    "the provider's own term.",
    {
        CampaignStatus.DRAFT: "Never started.",
        CampaignStatus.SCHEDULED: "Scheduled to start automatically.",
        CampaignStatus.ACTIVE: "Sending, or reacting to events.",
        CampaignStatus.PAUSED: "Not active now, but can be activated.",
        CampaignStatus.COMPLETED: "Finished sending.",
        CampaignStatus.ARCHIVED: "Archived.",
        CampaignStatus.UNKNOWN: "The provider reported no status, or one that the gateway does not "
        "know.",
    },
)

ERROR_CODES = {
    ErrorCode.INVALID_INPUT: "The gateway or the provider does not accept the input. `field` names "
    "the wrong field, if it is known. Correct it, then follow `retry`.",
    ErrorCode.CAMPAIGN_NOT_FOUND: "The provider does not know the campaign, or another id of the "
    "input, in this account. Check the ids and the account.",
    ErrorCode.AUTHENTICATION_FAILED: "The provider rejected the account's credentials. The "
    "operator of the gateway must correct the configuration.",
    ErrorCode.PERMISSION_DENIED: "The account's credentials lack a permission. An administrator of "
    "the account at the provider must grant it.",
    ErrorCode.QUOTA_EXCEEDED: "The account's plan allows no more campaigns, or no more calls for "
    "now: extend the plan, delete campaigns that are no longer needed, or wait. Or the caller has "
    "reached a limit of the gateway: `message` says which one and what to do.",
    ErrorCode.CONFLICT: "The campaign, or an object that it needs, is in a state that forbids "
    "copying now. Change that state, then follow `retry`.",
    ErrorCode.RATE_LIMITED: "Too many calls. Wait `retryAfterSeconds` if it is set, then follow "
    "`retry`.",
    ErrorCode.OVERLOADED: "The gateway cannot take the call now. Try again, after "
    "`retryAfterSeconds` if it is set; `retry` says with which key.",
    ErrorCode.PROVIDER_UNAVAILABLE: "The provider could not be reached, did not process the call, "
    "or does not offer it. Or an operator recorded that there is no copy. Try again later; `retry` "
    "says with which key.",
    ErrorCode.OUTCOME_UNKNOWN: "A copy may or may not exist. Do not request another one: query "
    "`duplication(id)`, or check the provider. If there is no duplication, the gateway could not "
    "look up the key: send the request again with the same key.",
    ErrorCode.IDEMPOTENCY_KEY_REUSED: "The key belongs to another input. For a new intent, use a "
    "new key. For a retry, send exactly the first input.",
    ErrorCode.IDEMPOTENCY_KEY_EXPIRED: "The key was used so long ago that its result is no longer "
    "stored. Or it may have been used in a period whose records are lost. Check at the provider "
    "whether the copy exists. For a new intent, use a new key; `message` says if it must be a UUID "
    "of version 7.",
    ErrorCode.UNRESOLVED_DUPLICATION: "An earlier request for the same copy is UNKNOWN, or its "
    "copy was found in the meantime: see `duplication` of the payload. Nothing was sent. Wait "
    "until that duplication is settled. If there is no `duplication`, another caller sent that "
    "request: try again after `retryAfterSeconds`.",
    ErrorCode.UNKNOWN_ACCOUNT: "The account does not exist, or several accounts are possible and "
    "the input names none. Set `account` to a name from `Query.accounts`.",
    ErrorCode.NOT_ALLOWED: "The caller may not request this copy. The operator of the gateway must "
    "allow it in the setting `may` of the caller.",
}
register_enum(
    ErrorCode,
    "Why there is no copy, or why it is not certain that there is one. No other codes exist. "
    "`retry` says whether to use the same key or a new one.",
    ERROR_CODES,
    "DuplicateCampaignErrorCode",
)


WARNING_CODES = {
    WarningCode.NAME_NOT_APPLIED: "The copy does not have the requested name: the second call, "
    "which sets it, has not succeeded. The gateway retries that call for ten minutes. After "
    "that, or if the provider rejected the name, or if the copy was found by a search, rename the "
    "copy at the provider.",
    WarningCode.NOT_APPLIED: "The copy does not have the requested option, which `field` names: "
    "the second call, which sets it, has not succeeded. The gateway retries that call for ten "
    "minutes. After that, or if the provider rejected the option, or if the copy was found by a "
    "search, set the option at the provider.",
    WarningCode.DETAILS_UNKNOWN: "Only the copy's id is known, because the gateway could not read "
    "the copy yet. It retries for ten minutes. After that, check the copy at the provider.",
    WarningCode.PARTIAL_COPY: "The provider did not copy everything. Compare the copy with its "
    "source.",
    WarningCode.PROVIDER_WARNING: "The provider returned a warning: see `providerMessage`.",
}
register_enum(
    WarningCode,
    "What to know about a copy that exists. A warning is never a reason to request another copy.",
    WARNING_CODES,
    "DuplicationWarningCode",
)


class Capability(StrEnum):
    FIND_COPY = "FIND_COPY"
    READ_CAMPAIGN = "READ_CAMPAIGN"


register_enum(
    Capability,
    "What the gateway can do with an account in addition to copying campaigns.",
    {
        Capability.FIND_COPY: "Find a copy whose id the provider did not return, in the provider's "
        "list of campaigns. The gateway compares the source campaign, if the provider reports it. "
        "Otherwise it compares the name: the requested one, or the one that the provider itself "
        "gives to a copy.",
        Capability.READ_CAMPAIGN: "Read a campaign by its id.",
    },
)
