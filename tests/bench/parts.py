"""What authentication and observation cost a mutation.

It calls what a mutation calls, because the difference between two whole requests is smaller than
the noise of a busy machine.
"""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from campaign_gateway.accounts.transport.redaction import create_redactor
from campaign_gateway.model import Campaign, Duplication, DuplicationStatus, Evidence, Intent
from campaign_gateway.observe import events, metrics
from campaign_gateway.observe.correlation import Correlation
from campaign_gateway.observe.health import account_health
from campaign_gateway.observe.log import FORMATTERS, skip_unused_attributes
from campaign_gateway.settings import parse_settings
from campaign_gateway.web.callers.authentication import Authentication, Callers
from campaign_gateway.web.callers.keys import create_key
from support import issuer

RUNS = 5
HEADERS = [
    (b"host", b"127.0.0.1:8000"),
    (b"accept", b"application/graphql-response+json"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"user-agent", b"client/1.0"),
    (b"content-type", b"application/json"),
    (b"content-length", b"512"),
    (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
]
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
HEALTH = account_health("braze-eu", "braze", 60.0)


async def measure(folder: Path, mutations: int) -> Mapping[str, float]:
    """Return the microseconds of CPU that a mutation spends in each part."""
    empty = await _cpu(_empty, [], mutations)
    costs = await _of_authentication(folder, mutations) | await _of_observation(mutations)
    return {part: cost - empty for part, cost in costs.items()}


async def _of_authentication(folder: Path, mutations: int) -> dict[str, float]:
    key, stored = create_key()
    key_set = folder / "jwks.json"
    key_set.write_text(json.dumps({"keys": [issuer.RSA.as_dict(private=False)]}))
    settings = parse_settings(
        {
            # As many as a gateway of several teams has.
            "callers": {
                name: {
                    "key": stored,
                    "accounts": "*",
                    "may": ["copy"],
                    "requests_per_minute": 10**9,
                }
                if name == "web-team"
                else {"key": create_key()[1], "accounts": "*", "may": ["copy"]}
                for name in ["web-team", *(f"team-{number}" for number in range(20))]
            },
            "jwt": {
                "issuer": issuer.NAME,
                "audience": issuer.AUDIENCE,
                "jwks": {"file": str(key_set)},
            },
            "accounts": {"braze-eu": {"provider": "sonarly", "api_key": "secret"}},
        },
        {},
    )
    callers = Callers(settings.callers, settings.jwt, _fetch_nothing, time.time)
    app = Authentication(_empty, callers, [])
    credentials = {"a caller's key": key, "a JWT that was verified before": issuer.token()}
    try:
        return {
            part: await _cpu(app, [(b"authorization", f"Bearer {each}".encode())], mutations)
            for part, each in credentials.items()
        }
    finally:
        await callers.close()


async def _of_observation(mutations: int) -> dict[str, float]:
    metrics.show_accounts({"braze-eu": "braze"})
    skip_unused_attributes()
    costs = {}
    for name, formatter_type in FORMATTERS.items():
        formatter = formatter_type()
        # As many secrets as a gateway with an account of each provider has.
        formatter.redact = create_redactor(f"secret-{number:032x}" for number in range(11))
        with _logging(formatter):
            cost = await _cpu(Correlation(_observed), [], mutations)
        costs[f"the log as {name}, and the metrics"] = cost
    return costs


@contextmanager
def _logging(formatter: logging.Formatter) -> Iterator[None]:
    """Write the log to a file, as `serve` does, and nowhere else."""
    log = logging.getLogger("campaign_gateway")
    before = log.level, log.propagate
    with Path("/dev/null").open("w", encoding="utf-8") as stream:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.level, log.propagate = before


async def _observed(_scope: Scope, _receive: Receive, _send: Send) -> None:
    # The two commits happen in the thread of the ledger.
    metrics.observe_commit(0.002, 1)
    metrics.observe_commit(0.002, 1)
    events.provider_called(HEALTH, events.ProviderCall.COPY, 0.1, http_status=201)
    events.outcome_settled(
        DUPLICATION, events.SettledBy.ATTEMPT, NOW, http_status=201, health=HEALTH
    )


async def _empty(_scope: Scope, _receive: Receive, _send: Send) -> None: ...


async def _fetch_nothing(url: str) -> bytes:
    raise AssertionError(f"the key set is a file, not {url}")


async def _cpu(app: ASGIApp, headers: list[tuple[bytes, bytes]], mutations: int) -> float:
    runs = []
    for _ in range(RUNS):
        before = time.process_time()
        for _ in range(mutations // RUNS):
            scope = {"type": "http", "path": "/graphql", "headers": [*HEADERS, *headers]}
            await app(scope, _receive, _send)
        runs.append(time.process_time() - before)
    # The least, because another process on the same core makes each call slower.
    return min(runs) / (mutations // RUNS) * 1e6


async def _receive() -> dict[str, object]:
    raise AssertionError("no part reads the body")


async def _send(message: object) -> None:
    raise AssertionError(f"the request was refused: {message}")
