"""Plain values that every room uses: campaigns, outcomes of a call, errors for callers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class DuplicationStatus(StrEnum):
    IN_PROGRESS = "IN_PROGRESS"
    UNKNOWN = "UNKNOWN"
    ACCEPTED = "ACCEPTED"
    CREATED = "CREATED"
    REJECTED = "REJECTED"


class Evidence(StrEnum):
    """How the gateway knows the outcome of a duplication, strongest first."""

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
    """A closed list: each code says what the caller does next."""

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
    NOT_ALLOWED = "NOT_ALLOWED"


class WarningCode(StrEnum):
    """What is incomplete in a copy that exists, or what its provider warned about."""

    NAME_NOT_APPLIED = "NAME_NOT_APPLIED"
    NOT_APPLIED = "NOT_APPLIED"
    DETAILS_UNKNOWN = "DETAILS_UNKNOWN"
    PARTIAL_COPY = "PARTIAL_COPY"
    PROVIDER_WARNING = "PROVIDER_WARNING"


class Retry(StrEnum):
    """What a caller does next. A caller that follows it never makes two copies for one intent."""

    SAME_KEY = "SAME_KEY"
    NEW_KEY = "NEW_KEY"
    WAIT = "WAIT"
    NO = "NO"


# What to do after errors that no record has, and that the same key would get again.
RETRY_WITHOUT_RECORD: Mapping[ErrorCode | None, Retry] = {
    ErrorCode.IDEMPOTENCY_KEY_REUSED: Retry.NO,
    ErrorCode.IDEMPOTENCY_KEY_EXPIRED: Retry.NO,
    ErrorCode.UNRESOLVED_DUPLICATION: Retry.WAIT,
}


@dataclass(frozen=True, slots=True)
class UserError:
    """An expected failure, which the caller gets as data. `retry_after` is in seconds."""

    code: ErrorCode
    message: str
    field: tuple[str, ...] | None = None
    retry_after: int | None = None
    provider_code: str | None = None
    provider_message: str | None = None

    def retry(self, *, is_recorded: bool) -> Retry:
        """Return what the caller does next. `is_recorded`: the error is in the key's record.

        Without a record only the same key is safe: another gateway may be using it right now.
        """
        if not is_recorded:
            # With a time the duplication is another caller's, whose result this one cannot read.
            is_other_s = self.code is ErrorCode.UNRESOLVED_DUPLICATION and self.retry_after
            return RETRY_WITHOUT_RECORD.get(None if is_other_s else self.code, Retry.SAME_KEY)
        return Retry.WAIT if self.code is ErrorCode.OUTCOME_UNKNOWN else Retry.NEW_KEY


class Refused(Exception):
    """Raised before anything was sent: this request has made nothing and recorded nothing."""

    def __init__(self, error: UserError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class CopyWarning:
    """Something that the caller should know about the copy.

    `is_final`: the gateway does not try again to complete the copy. `field` is the path of the
    option that the copy does not have.
    """

    code: WarningCode
    message: str
    provider_message: str | None = None
    is_final: bool = False
    field: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class CopiedObject:
    """An object that was copied together with its campaign. `type` is the provider's word."""

    type: str
    source_id: str
    copy_id: str


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign; None for what the provider has not described.

    `copied_from` is the id of the campaign that it is a copy of. `copied_objects` are known only
    from the response to the copying call. `url` is where people see it at the provider.
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
    copied_objects: tuple[CopiedObject, ...] = ()
    url: str | None = None


def is_same_id(one: str, other: str) -> bool:
    """Whether two ids name the same campaign. Providers ignore upper and lower case in ids."""
    return one.lower() == other.lower()


@dataclass(frozen=True, slots=True)
class Created:
    campaign: Campaign
    trace_id: str | None = None
    warnings: tuple[CopyWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider accepted the request, and has not finished the copy or not reported its id.

    `campaign` is the unfinished copy, if the provider has reported its id.
    """

    trace_id: str | None = None
    campaign: Campaign | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """No copy was made, for certain: mostly because the provider rejected the request."""

    error: UserError
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """A copy may or may not exist. Only a search at the provider can find out."""

    error: UserError
    trace_id: str | None = None


Failure = Rejected | Unknown

Outcome = Created | Accepted | Failure


@dataclass(frozen=True, slots=True)
class Intent:
    """What a caller wants, as the ledger records it before the first byte is sent.

    `attempt_id` distinguishes this attempt's row from one that another attempt wrote for the same
    key. `input` is the provider's input as JSON; it contains no secret. In an `id_namespace` every
    campaign id is unique: accounts that see the same campaigns share it. `override_of` is the id
    of an UNKNOWN duplication of the same copy that the caller accepts to be copied twice. The
    ledger removes it when the attempt is rejected, because then it has overridden nothing.
    `caller` and `person` are who requested it; None if that is not known.
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
    id_namespace: str = ""
    override_of: str | None = None
    caller: str | None = None
    person: str | None = None


@dataclass(frozen=True, slots=True)
class Duplication:
    """The record of one intent and its outcome.

    `campaign` is the copy. While the duplication is ACCEPTED, the provider is still making it.
    `preexisting_ids` are the campaigns that matched the copy before the call; None if they were
    not listed. `candidates` are the campaigns between which the last check could not choose. Of an
    `expired` duplication only the key and the status are kept. At `next_check_at` the gateway
    checks it again.
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
    preexisting_ids: tuple[str, ...] | None = None
    # A plan of the gateway and no part of the result.
    next_check_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Unsettled:
    """The unsettled duplications of an account with a status. `oldest` was requested first."""

    account: str
    status: DuplicationStatus
    number: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class LostTime:
    """A time whose records the ledger does not have, because it was restored from a copy.

    It began when the copy was made, and ended when an operator declared it restored. Until
    `refused_until`, keys that do not show when they were made are refused.
    """

    began_at: datetime
    ended_at: datetime
    refused_until: datetime


@dataclass(frozen=True, slots=True)
class OperatorNote:
    """Which operator changed a record, and why. Callers do not see it."""

    operator: str
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """A state that a duplication has or had, since `at`.

    `at` is None if an earlier version of the gateway recorded the state without its time.
    """

    at: datetime | None
    status: DuplicationStatus
    evidence: Evidence | None = None
    campaign_id: str | None = None
    error: UserError | None = None
    note: OperatorNote | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which duplications to list; None does not filter. `since` is included, `until` is not."""

    statuses: tuple[DuplicationStatus, ...] | None = None
    provider: str | None = None
    account: str | None = None
    caller: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the gateway waits, in seconds. Users cannot set it; tests shorten it.

    It contains the values that tests change. Other times are constants of their modules.
    """

    # A request for a token, and the wait for another caller's. A call's own timeout comes after it.
    token_timeout: float = 5.0

    # From the end of a call whose result is not known yet to the first check.
    first_check_after: float = 1.0
    # How long a caller waits for the completion of the copy. After that the reconciler does it.
    completion_timeout: float = 5.0
    # From the response to the reconciler's first try of a completion that is not done by then. It
    # is longer than `completion_timeout`, so only one of the two tries at a time.
    completion_due_after: float = 10.0
    # Between two tries of a step of the completion that failed.
    completion_retry_interval: float = 15.0

    # How often the reconciler asks the ledger what is due.
    reconcile_interval: float = 0.5
    # Between the checks of one duplication; the last interval repeats.
    check_intervals: tuple[float, ...] = (2, 3, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
    # The longest check. During this time no other gateway checks the same duplication.
    check_timeout: float = 30.0

    # How long a problem of an account or of the ledger must be away until it is reported as over.
    problem_over_after: float = 60.0

    # How often the metrics of the ledger are renewed.
    ledger_watch_interval: float = 5.0

    # How often old records are removed, and how many in one statement. Few, so that the statement
    # hardly delays the calls in progress.
    retention_interval: float = 60.0
    # From the start, or from a jump of the clock, until old records are removed.
    retention_delay: float = 3600.0
    retention_batch: int = 500
    # From the start to the first check of the accounts, and between two checks of one account.
    account_check_delay: float = 2.0
    account_check_interval: float = 600.0
    # How long a background task that has failed waits until it restarts.
    restart_pause: float = 1.0

    # How long a statement is tried, over lost connections and restarts of PostgreSQL.
    statement_timeout: float = 10.0
    heartbeat_interval: float = 2.0
    # A gateway without a heartbeat for this long counts as dead, and its calls in progress become
    # UNKNOWN. If it still runs, it still settles them.
    dead_after: float = 15.0


DEFAULT_TIMING = Timing()


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
