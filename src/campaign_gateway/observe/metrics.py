"""The metrics of this process, and the functions that count.

A label has only values of an enum, and the accounts and providers of the configuration. So a client
or a provider cannot create series.
"""

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from time import monotonic
from typing import Generic, TypeVar

from prometheus_client import (
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)

from campaign_gateway.model import DuplicationStatus, ErrorCode, Evidence
from campaign_gateway.observe.registry import REGISTRY

# The account and the provider of what belongs to no configured account. No account can have this
# name.
NOT_CONFIGURED = "(not configured)"

# The label of outcomes that need no evidence. An empty label would look like a missing one.
NO_EVIDENCE = "NONE"

# How often the delay of the event loop is measured, in seconds.
LAG_INTERVAL = 0.25

ACCOUNT = ("provider", "account")


# The outcome of a call to a provider by its HTTP status: one of these, or else by its class.
_STATUSES = {401: "unauthorized", 403: "forbidden", 429: "rate_limited"}
_STATUS_CLASSES = {2: "success", 4: "client_error", 5: "server_error"}


BUILD_INFO = Gauge(
    "campaign_gateway_build_info",
    "1, with the version of the gateway and the kind of its ledger.",
    ["version", "ledger"],
    registry=REGISTRY,
)
DUPLICATIONS = Counter(
    "campaign_gateway_duplications_total",
    "Outcomes that this gateway has recorded. One duplication counts again when it gets another "
    "status.",
    [*ACCOUNT, "status", "evidence"],
    registry=REGISTRY,
)
ERRORS = Counter(
    "campaign_gateway_errors_total",
    "Mutations that ended with an error or were refused, by the code that the caller got.",
    [*ACCOUNT, "code"],
    registry=REGISTRY,
)
PROVIDER_CALLS = Histogram(
    "campaign_gateway_provider_call_duration_seconds",
    "Calls to providers, without the wait for the limits of the account.",
    [*ACCOUNT, "call", "outcome"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
    registry=REGISTRY,
)
CHECKS = Counter(
    "campaign_gateway_checks_total",
    "Checks of unsettled duplications, and lists before a copy, by whether the provider could be "
    "read.",
    [*ACCOUNT, "result"],
    registry=REGISTRY,
)
COMMITS = Histogram(
    "campaign_gateway_ledger_commit_duration_seconds",
    "The time until a write of the ledger was durable.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=REGISTRY,
)
COMMIT_WRITES = Histogram(
    "campaign_gateway_ledger_commit_writes",
    "How many writes shared one commit. With PostgreSQL it is always one.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    registry=REGISTRY,
)
LEDGER_FAILURES = Counter(
    "campaign_gateway_ledger_failures_total",
    "Reads and writes that the ledger could not do.",
    ["operation"],
    registry=REGISTRY,
)
LEDGER_WRITABLE = Gauge(
    "campaign_gateway_ledger_writable",
    "1 if the ledger could record a new intent at the last check, otherwise 0.",
    registry=REGISTRY,
)
LOOP_LAG = Histogram(
    "campaign_gateway_event_loop_lag_seconds",
    f"How late the event loop ran a timer, which it sets every {LAG_INTERVAL} seconds.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
    registry=REGISTRY,
)

ProcessCollector(registry=REGISTRY)

# The provider of each configured account, and so all values that these two labels can have.
PROVIDERS: dict[str, str] = {}

AnyMetric = TypeVar("AnyMetric", Counter, Histogram)


class _ByAccount(Generic[AnyMetric]):
    """The series of a metric by account and more labels. `labels` would check them each time."""

    def __init__(self, metric: AnyMetric) -> None:
        self._metric: AnyMetric = metric
        self._series: dict[tuple[str, ...], AnyMetric] = {}

    def of(self, account: str | None, *labels: str) -> AnyMetric:
        """Return the series of the account, or the one that all unknown accounts share."""
        name = account if account in PROVIDERS else NOT_CONFIGURED
        series = self._series.get((name, *labels))
        if series is None:
            provider = PROVIDERS.get(name, NOT_CONFIGURED)
            series = self._series[name, *labels] = self._metric.labels(provider, name, *labels)
        return series


_duplications = _ByAccount(DUPLICATIONS)
_errors = _ByAccount(ERRORS)
_provider_calls = _ByAccount(PROVIDER_CALLS)
_checks = _ByAccount(CHECKS)
_ledger_failures = {name: LEDGER_FAILURES.labels(name) for name in ("read", "write")}


def show_build(version: str, ledger: str) -> None:
    """Show which program runs. `ledger` is the kind of its database."""
    BUILD_INFO.labels(version, ledger).set(1)


def show_accounts(providers: Mapping[str, str]) -> None:
    """Create the series of this gateway's accounts. `providers` has the provider of each account.

    A series that began with 1 would hide its first event: `increase` sees only changes.
    """
    PROVIDERS.update(providers)
    for account in (*providers, None):
        for code in ErrorCode:
            _errors.of(account, code)
    for account in providers:
        for status, evidence in _OUTCOMES:
            _duplications.of(account, status, evidence)
        for result in ("done", "failed"):
            _checks.of(account, result)


# What a gateway can record. What an operator settles is recorded by another process.
_OUTCOMES = (
    (DuplicationStatus.CREATED, Evidence.RESPONSE),
    (DuplicationStatus.CREATED, Evidence.INFERRED),
    (DuplicationStatus.ACCEPTED, Evidence.RESPONSE),
    (DuplicationStatus.REJECTED, Evidence.RESPONSE),
    (DuplicationStatus.UNKNOWN, NO_EVIDENCE),
)


def count_duplication(account: str, status: DuplicationStatus, evidence: Evidence | None) -> None:
    """Count an outcome that is recorded now."""
    _duplications.of(account, status, evidence or NO_EVIDENCE).inc()


def count_error(account: str | None, code: ErrorCode) -> None:
    """Count the error of a mutation. `account` is None if the mutation has no valid account."""
    _errors.of(account, code).inc()


def observe_provider_call(
    account: str, call: StrEnum, seconds: float, result: int | StrEnum
) -> None:
    """Observe a call of `seconds`. `result` is the HTTP status, or why there is none."""
    if isinstance(result, int):
        by_class = _STATUS_CLASSES.get(result // 100, "other_status")
        outcome = _STATUSES.get(result, by_class)
    else:
        outcome = result
    _provider_calls.of(account, call, outcome).observe(seconds)


def count_check(account: str, *, is_done: bool) -> None:
    """Count a check of an unsettled duplication. `is_done`: the provider could be read."""
    _checks.of(account, "done" if is_done else "failed").inc()


def observe_commit(seconds: float, writes: int) -> None:
    COMMITS.observe(seconds)
    COMMIT_WRITES.observe(writes)


def count_ledger_failure(operation: str, number: int = 1) -> None:
    """`operation` is "read" or "write"."""
    _ledger_failures[operation].inc(number)


async def measure_loop_lag() -> None:
    """Measure how late the event loop runs a timer, for ever."""
    while True:
        due_at = monotonic() + LAG_INTERVAL
        await asyncio.sleep(LAG_INTERVAL)
        LOOP_LAG.observe(max(0.0, monotonic() - due_at))
