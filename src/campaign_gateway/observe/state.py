"""Metrics that are read when Prometheus asks for them: limits, and what the ledger has."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from time import monotonic
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from campaign_gateway.model import DuplicationStatus, Unsettled
from campaign_gateway.observe.metrics import ACCOUNT, NOT_CONFIGURED, PROVIDERS
from campaign_gateway.observe.registry import REGISTRY

UNSETTLED = (DuplicationStatus.IN_PROGRESS, DuplicationStatus.UNKNOWN, DuplicationStatus.ACCEPTED)


class Limiter(Protocol):
    """The limits of one account. The keys are the kind of call, and the limit that was reached."""

    def running_calls(self) -> Mapping[str, int]: ...

    def waiting_calls(self) -> Mapping[str, int]: ...

    def refused_calls(self) -> Mapping[tuple[str, str], int]: ...

    def allowed_calls(self) -> Mapping[str, int]: ...

    def used_calls(self) -> Mapping[str, int]: ...


class _Limits(Collector):
    def __init__(self) -> None:
        self.by_account: dict[str, Limiter] = {}

    def collect(self) -> Iterator[Metric]:
        running = GaugeMetricFamily(
            "campaign_gateway_running_calls",
            "Copies, checks and reads of an account that are running.",
            labels=[*ACCOUNT, "kind"],
        )
        waiting = GaugeMetricFamily(
            "campaign_gateway_waiting_calls",
            "Copies, checks and reads that wait for the limits of their account.",
            labels=[*ACCOUNT, "kind"],
        )
        refused = CounterMetricFamily(
            "campaign_gateway_limit_refusals",
            "Copies, checks and reads that the limits of their account have refused.",
            labels=[*ACCOUNT, "kind", "limit"],
        )
        allowed = GaugeMetricFamily(
            "campaign_gateway_limit_calls",
            "Calls that a limit of an account allows, to all gateways together.",
            labels=[*ACCOUNT, "limit"],
        )
        used = GaugeMetricFamily(
            "campaign_gateway_limit_used_calls",
            "Calls of this gateway that count against a limit of their account now.",
            labels=[*ACCOUNT, "limit"],
        )
        for account, limiter in self.by_account.items():
            labels = (PROVIDERS[account], account)
            for kind, number in limiter.running_calls().items():
                running.add_metric([*labels, kind], number)
            for kind, number in limiter.waiting_calls().items():
                waiting.add_metric([*labels, kind], number)
            for (kind, limit), number in limiter.refused_calls().items():
                refused.add_metric([*labels, kind, limit], number)
            for limit, number in limiter.allowed_calls().items():
                allowed.add_metric([*labels, limit], number)
            for limit, number in limiter.used_calls().items():
                used.add_metric([*labels, limit], number)
        yield from (running, waiting, refused, allowed, used)


class _UnsettledInLedger(Collector):
    """Shows the result of the last look into the ledger. The ages grow until the next one.

    So a database that does not respond cannot delay anyone who reads the metrics.
    """

    def __init__(self) -> None:
        # For an account and a status the number, and since when the oldest waits (monotonic time).
        self.found: Mapping[tuple[str, str], tuple[int, float]] = {}

    def collect(self) -> Iterator[Metric]:
        number = GaugeMetricFamily(
            "campaign_gateway_unsettled",
            "Duplications in the ledger that are not settled.",
            labels=[*ACCOUNT, "status"],
        )
        age = GaugeMetricFamily(
            "campaign_gateway_oldest_unsettled_seconds",
            "The time since the oldest of them was requested. 0 if there is none.",
            labels=[*ACCOUNT, "status"],
        )
        now = monotonic()
        for account, provider in (*PROVIDERS.items(), (NOT_CONFIGURED, NOT_CONFIGURED)):
            for status in UNSETTLED:
                count, since = self.found.get((account, status), (0, now))
                number.add_metric([provider, account, status], count)
                age.add_metric([provider, account, status], max(0.0, now - since))
        yield from (number, age)


class _FreeBytes(Collector):
    """Shows the free bytes of the ledger's disk, and no series if they are not known."""

    def __init__(self) -> None:
        self.number: int | None = None

    def collect(self) -> Iterator[Metric]:
        free = GaugeMetricFamily(
            "campaign_gateway_ledger_free_bytes",
            "The free bytes of the file system that has the ledger. Only with SQLite.",
        )
        if self.number is not None:
            free.add_metric([], self.number)
        yield free


_limits = _Limits()
_free_bytes = _FreeBytes()
_in_ledger = _UnsettledInLedger()
REGISTRY.register(_limits)
REGISTRY.register(_in_ledger)
REGISTRY.register(_free_bytes)


def show_limits(account: str, limiter: Limiter) -> None:
    """Show the limits of a configured account from now on."""
    _limits.by_account[account] = limiter


def show_free_bytes(number: int | None) -> None:
    """Show the free bytes of the ledger's disk. None: they are not known."""
    _free_bytes.number = number


def show_unsettled(groups: Iterable[Unsettled], now: datetime) -> None:
    """Show what the ledger has at `now`, a time of its clock."""
    found: dict[tuple[str, str], tuple[int, float]] = {}
    read_at = monotonic()
    for group in groups:
        key = group.account if group.account in PROVIDERS else NOT_CONFIGURED, group.status
        number, since = found.get(key, (0, read_at))
        oldest = read_at - (now - group.oldest).total_seconds()
        found[key] = number + group.number, min(since, oldest)
    _in_ledger.found = found
