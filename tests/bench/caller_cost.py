"""Measures what finding the caller of one request costs: `python tests/bench/caller_cost.py`.

It calls the middleware itself, because the difference to a whole request is smaller than the noise.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from campaign_gateway.web.callers.authentication import Authentication, Callers
from campaign_gateway.web.callers.keys import create_key
from campaign_gateway.web.callers.settings import CallerSettings, JwtSettings
from support.issuer import AUDIENCE, EC, NAME, RSA, claims_of, token

REQUESTS = 20_000


async def measure(requests: int = REQUESTS) -> Mapping[str, float]:
    """Return the microseconds of CPU for a request, by the kind of its credential."""
    key, stored = create_key()
    caller = {"key": stored, "accounts": "*", "may": ["copy"], "requests_per_minute": 10**9}
    settings = CallerSettings.model_validate(caller)
    jwt = JwtSettings(issuer=NAME, audience=AUDIENCE, jwks_url="https://login.example.com/keys")

    async def fetch(_url: str) -> bytes:
        return json.dumps({"keys": [each.as_dict(private=False) for each in (RSA, EC)]}).encode()

    callers = Callers({"web-team": settings}, jwt, fetch, time.time)
    app = Authentication(_app, callers, ())
    several = max(1, requests // 100)
    tokens = [token(claims_of(jti=f"{number}")) for number in range(several)]
    signed = [token(claims_of(jti=f"{number}"), EC, "ES256") for number in range(several)]
    await _cpu(app, [token()])
    empty = await _cpu(_app, [key] * requests)
    return {
        "key": await _cpu(app, [key] * requests) - empty,
        "remembered token": await _cpu(app, [token()] * requests) - empty,
        "new token, RS256": await _cpu(app, tokens) - empty,
        "new token, ES256": await _cpu(app, signed) - empty,
    }


async def _app(_scope: Any, _receive: Any, _send: Any) -> None: ...


async def _cpu(app: Any, credentials: list[str]) -> float:
    async def send(message: Any) -> None:
        raise AssertionError(message)

    before = time.process_time()
    for credential in credentials:
        # As many headers as a client sends.
        headers = [
            (b"host", b"127.0.0.1:8000"),
            (b"accept", b"application/graphql-response+json"),
            (b"accept-encoding", b"gzip, deflate"),
            (b"user-agent", b"client/1.0"),
            (b"content-type", b"application/json"),
            (b"content-length", b"512"),
            (b"authorization", f"Bearer {credential}".encode()),
        ]
        await app({"type": "http", "path": "/graphql", "headers": headers}, None, send)
    return (time.process_time() - before) / len(credentials) * 1e6


if __name__ == "__main__":
    for name, microseconds in asyncio.run(measure()).items():
        print(f"{name:<20} {microseconds:6.1f} us")
