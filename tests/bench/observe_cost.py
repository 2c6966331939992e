"""Measures what the log and the metrics cost a mutation: `python tests/bench/observe_cost.py`.

It calls what a mutation calls, because the difference to a whole request is smaller than the noise.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from campaign_gateway.accounts.transport.redaction import create_redactor
from campaign_gateway.model import Campaign, Duplication, DuplicationStatus, Evidence, Intent
from campaign_gateway.observe import events, metrics
from campaign_gateway.observe.correlation import Correlation
from campaign_gateway.observe.health import account_health
from campaign_gateway.observe.log import FORMATTERS

MUTATIONS = 10_000
NOW = datetime.now(UTC)

DUPLICATION = Duplication(
    Intent(
        "01a21f82-4050-7a53-9d7b-b2c990ed5035",
        "",
        "caller:web-team",
        "",
        "",
        "braze",
        "braze-eu",
        "9f3f7b64-2a0e-4c55-8f0b-6a2d5a4c1e11",
        "Spring sale",
        "{}",
        caller="web-team",
        person="ann@example.com",
    ),
    DuplicationStatus.CREATED,
    NOW,
    Campaign("507f1f77bcf86cd799439011", "Spring sale"),
    evidence=Evidence.RESPONSE,
    provider_trace_id="4f1d9a0c2b7e",
)


async def measure(mutations: int = MUTATIONS) -> Mapping[str, float]:
    """Return the microseconds of CPU for a mutation: of both, by the format of the log."""
    metrics.show_accounts({"braze-eu": "braze"})
    empty = await _cpu(_app, mutations)
    costs = {}
    for name, formatter_type in FORMATTERS.items():
        formatter = formatter_type()
        # As many secrets as a gateway with an account of each provider has.
        formatter.redact = create_redactor(f"secret-{number:032x}" for number in range(11))
        with _logging(formatter, logging.INFO):
            cost = await _cpu(Correlation(_mutation), mutations) - empty
        costs[f"the log as {name} and the metrics"] = cost
    with _logging(logging.Formatter(), logging.CRITICAL):
        costs["the metrics alone"] = await _cpu(Correlation(_mutation), mutations) - empty
    return costs


@contextmanager
def _logging(formatter: logging.Formatter, level: int) -> Iterator[None]:
    """Write the log to a file, as `serve` does, and nowhere else."""
    log = logging.getLogger("campaign_gateway")
    before = log.level, log.propagate
    with Path("/dev/null").open("w", encoding="utf-8") as stream:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        log.addHandler(handler)
        log.setLevel(level)
        log.propagate = False
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.level, log.propagate = before


HEALTH = account_health("braze-eu", "braze", 60.0)


async def _mutation(_scope: Any, _receive: Any, _send: Any) -> None:
    # The two commits happen in the thread of the ledger.
    metrics.observe_commit(0.002, 1)
    metrics.observe_commit(0.002, 1)
    events.provider_called(HEALTH, events.ProviderCall.COPY, 0.1, http_status=201)
    events.outcome_settled(
        DUPLICATION, events.SettledBy.ATTEMPT, NOW, http_status=201, health=HEALTH
    )


async def _app(_scope: Any, _receive: Any, _send: Any) -> None: ...


async def _cpu(app: Callable[[Any, Any, Any], Any], mutations: int) -> float:
    headers = [
        (b"host", b"127.0.0.1:8000"),
        (b"accept", b"application/graphql-response+json"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"user-agent", b"client/1.0"),
        (b"content-type", b"application/json"),
        (b"content-length", b"512"),
        (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ]
    scope = {"type": "http", "headers": headers}
    runs = []
    for _ in range(5):
        before = time.process_time()
        for _ in range(mutations // 5):
            await app(scope, None, None)
        runs.append(time.process_time() - before)
    # The least, because another process on the same core makes each call slower.
    return min(runs) / (mutations // 5) * 1e6


if __name__ == "__main__":
    for name, microseconds in asyncio.run(measure()).items():
        print(f"{name:<32} {microseconds:6.1f} us")
