"""Clients and providers cannot create series, and every metric is documented."""

import logging
import re
from datetime import UTC, datetime
from typing import Any

from prometheus_client import generate_latest

from campaign_gateway.model import (
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Intent,
    Unsettled,
    UserError,
)
from campaign_gateway.observe import events, metrics
from campaign_gateway.observe.health import Health
from campaign_gateway.observe.registry import REGISTRY
from campaign_gateway.observe.state import show_unsettled
from support.prometheus import parse
from support.readmes import READMES

NUMBER = 10_000
NOW = datetime.now(UTC)


def series() -> set[str]:
    return set(parse(generate_latest(REGISTRY).decode()))


def report(hostile: str, http_status: int) -> None:
    """Report each kind of event, with a text for all that callers and providers can choose."""
    error = UserError(ErrorCode.CONFLICT, hostile, provider_code=hostile, provider_message=hostile)
    intent: Any = dict.fromkeys(Intent.__slots__, hostile)
    duplication = Duplication(Intent(**intent), DuplicationStatus.REJECTED, NOW, error=error)
    health = Health(hostile, 60, account=hostile, provider=hostile)
    events.outcome_settled(duplication, events.SettledBy.ATTEMPT, NOW)
    events.refused(
        error,
        caller=hostile,
        person=hostile,
        provider=hostile,
        requested_account=hostile,
        source=hostile,
    )
    events.provider_called(health, events.ProviderCall.COPY, 0.1, http_status=http_status)
    events.search_failed(health, hostile, hostile)
    events.search_done(health)
    show_unsettled([Unsettled(hostile, DuplicationStatus.UNKNOWN, 1, NOW)], NOW)


async def test_10_000_hostile_names_ids_and_codes_make_no_series() -> None:
    logging.disable()
    try:
        for http_status in range(100, 600):
            report("first", http_status)
        known = series()
        for number in range(NUMBER):
            report(f'a-{number}",account="b\n{{}}\\', number)
    finally:
        logging.disable(logging.NOTSET)
    assert series() == known
    assert not re.search(r"a-\d|first", "".join(known))


def test_table_has_every_metric_with_its_labels() -> None:
    readme = READMES["src/campaign_gateway/observe/README.md"]
    (rows,) = (rows for header, rows in readme.tables() if header[0] == "Metric")
    documented = {row[0].strip("`"): (row[1], set(re.findall(r"`(\w+)`", row[2]))) for row in rows}
    metrics.show_accounts({"mail": "sendgrid"})
    metrics.show_build("1", "sqlite")
    metrics.observe_provider_call("mail", events.ProviderCall.COPY, 1, 200)
    text = generate_latest(REGISTRY).decode()
    kinds = dict(re.findall(r"^# TYPE (campaign_gateway_\S+) (\w+)$", text, re.MULTILINE))
    assert {name: kind for name, (kind, _) in documented.items()} == kinds
    for name, (_, labels) in documented.items():
        lines = re.findall(rf"^{name}(?:_bucket)?(\{{.*\}})? \S+$", text, re.MULTILINE)
        shown = {label for line in lines for label in re.findall(r'(\w+)="', line)} - {"le"}
        # Limits have series only while a gateway runs.
        assert shown == labels or not lines, name
