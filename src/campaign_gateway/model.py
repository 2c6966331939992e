"""The plain values every room speaks in: campaigns, outcomes of a send, errors for callers."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class DuplicationStatus(StrEnum):
    IN_PROGRESS = "IN_PROGRESS"
    UNKNOWN = "UNKNOWN"
    ACCEPTED = "ACCEPTED"
    CREATED = "CREATED"
    REJECTED = "REJECTED"


class Evidence(StrEnum):
    """How the gateway knows what became of a duplication, strongest first."""

    RESPONSE = "RESPONSE"
    OPERATOR = "OPERATOR"
    INFERRED = "INFERRED"


class CampaignStatus(StrEnum):
    DRAFT = "DRAFT"
    SCHEDULED = "SCHEDULED"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    ARCHIVED = "ARCHIVED"
    UNKNOWN = "UNKNOWN"


class ErrorCode(StrEnum):
    """A closed list: each code tells the caller what to do next."""

    INVALID_INPUT = "INVALID_INPUT"
    CAMPAIGN_NOT_FOUND = "CAMPAIGN_NOT_FOUND"
    AUTHENTICATION_FAILED = "AUTHENTICATION_FAILED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    CONFLICT = "CONFLICT"
    RATE_LIMITED = "RATE_LIMITED"
    OVERLOADED = "OVERLOADED"
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    IDEMPOTENCY_KEY_EXPIRED = "IDEMPOTENCY_KEY_EXPIRED"
    UNRESOLVED_DUPLICATION = "UNRESOLVED_DUPLICATION"
    UNKNOWN_ACCOUNT = "UNKNOWN_ACCOUNT"


class WarningCode(StrEnum):
    """What a copy that exists lacks, or what its provider remarked."""

    NAME_NOT_APPLIED = "NAME_NOT_APPLIED"
    DETAILS_UNKNOWN = "DETAILS_UNKNOWN"
    PARTIAL_COPY = "PARTIAL_COPY"
    PROVIDER_WARNING = "PROVIDER_WARNING"


class Retry(StrEnum):
    """What a caller does next. A caller that follows it never makes two copies for one intent."""

    SAME_KEY = "SAME_KEY"
    NEW_KEY = "NEW_KEY"
    WAIT = "WAIT"
    NO = "NO"


# Refusals without a record that another request with the same key would not change.
RETRY_WITHOUT_RECORD = {
    ErrorCode.IDEMPOTENCY_KEY_REUSED: Retry.NO,
    ErrorCode.IDEMPOTENCY_KEY_EXPIRED: Retry.NO,
    ErrorCode.UNRESOLVED_DUPLICATION: Retry.WAIT,
}


@dataclass(frozen=True, slots=True)
class UserError:
    """An expected failure, told to the caller as data. `retry_after` is in seconds."""

    code: ErrorCode
    message: str
    field: tuple[str, ...] | None = None
    retry_after: int | None = None
    provider_code: str | None = None
    provider_message: str | None = None

    def retry(self, *, is_recorded: bool) -> Retry:
        """What the caller does next; `is_recorded` if the error is on record for the caller's key.

        Without a record only the same key is safe: another gateway may be using it right now.
        """
        if not is_recorded:
            return RETRY_WITHOUT_RECORD.get(self.code, Retry.SAME_KEY)
        return Retry.WAIT if self.code is ErrorCode.OUTCOME_UNKNOWN else Retry.NEW_KEY


class Refused(Exception):
    """Raised before anything was sent: this request has made and recorded nothing."""

    def __init__(self, error: UserError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class CopyWarning:
    """Something about a copy that whoever asked for it should know.

    `is_final` says of what the copy lacks that the provider has refused to mend it.
    """

    code: WarningCode
    message: str
    provider_message: str | None = None
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as far as the provider has described it; None where it has not.

    `copied_from` is the id of the campaign that it is a copy of.
    """

    id: str
    name: str | None = None
    description: str | None = None
    status: CampaignStatus = CampaignStatus.UNKNOWN
    provider_status: str | None = None
    tags: tuple[str, ...] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    copied_from: str | None = None


@dataclass(frozen=True, slots=True)
class Created:
    campaign: Campaign
    trace_id: str | None = None
    warnings: tuple[CopyWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider said yes, and has not named the copy or is not done with it.

    `campaign` is the copy to be, where the provider has told its id.
    """

    trace_id: str | None = None
    campaign: Campaign | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider plainly refused: no copy was made."""

    error: UserError
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """A copy may or may not exist; only reading the provider can tell."""

    error: UserError
    trace_id: str | None = None


Outcome = Created | Accepted | Rejected | Unknown


@dataclass(frozen=True, slots=True)
class Intent:
    """What is recorded before the first byte leaves.

    `attempt_id` tells this attempt's row from one that another attempt wrote for the same key.
    `input` is the provider's input as JSON; it holds no secret. `preexisting_ids` are the ids of the campaigns
    that had the copy's name before the send; None when nobody looked. `id_namespace` is where the
    account leads to, and the kind of campaign where ids depend on it: accounts of one platform see
    the same campaigns.
    """

    id: str
    attempt_id: str
    scope: str
    key: str
    fingerprint: str
    provider: str
    account: str
    source_campaign_id: str
    requested_name: str | None
    input: str
    preexisting_ids: tuple[str, ...] | None = None
    id_namespace: str = ""


@dataclass(frozen=True, slots=True)
class Duplication:
    """One intent with what has become of it.

    `campaign` is the copy, or the copy to be of an ACCEPTED one. `candidates` are the campaigns of
    which the last check could not tell which is the copy. Of an `expired` one nothing is kept but
    that its key was used and how it ended.
    """

    intent: Intent
    status: DuplicationStatus
    requested_at: datetime
    campaign: Campaign | None = None
    error: UserError | None = None
    evidence: Evidence | None = None
    provider_trace_id: str | None = None
    settled_at: datetime | None = None
    checks: int = 0
    warnings: tuple[CopyWarning, ...] = ()
    candidates: tuple[Campaign, ...] = ()
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """Which duplications to list; None does not narrow. `since` is included, `until` is not."""

    statuses: tuple[DuplicationStatus, ...] | None = None
    provider: str | None = None
    account: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def status_of(outcome: Outcome) -> DuplicationStatus:
    match outcome:
        case Created():
            return DuplicationStatus.CREATED
        case Accepted():
            return DuplicationStatus.ACCEPTED
        case Rejected():
            return DuplicationStatus.REJECTED
        case Unknown():
            return DuplicationStatus.UNKNOWN
