"""Decides which connections copies may share: `python tests/bench/kept_connections.py`.

A provider behind TLS and a round trip of 40 ms closes idle connections at every moment around the
time for which the gateway uses them. It prints how many copies become UNKNOWN, by how long before
that moment they were sent, and how long copies and reads take on new and kept connections.
"""

import argparse
import asyncio
import json
import logging
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from campaign_gateway.accounts.transport import connecting, http1
from campaign_gateway.accounts.transport.client import Transport
from campaign_gateway.accounts.transport.errors import NoResponse
from campaign_gateway.accounts.transport.kept_connections import (
    IDLE_SECONDS_OF_COPIES,
    KeptConnections,
)
from campaign_gateway.connectors.contract import ProviderRequest
from campaign_gateway.observe.health import account_health
from campaign_gateway.sandbox.contract_suite.calling import free_permit
from support.distant_provider import ROUND_TRIP, DistantProvider, distant

CALLS = 10_000

# So many copies at the same time. More would delay each other on a busy machine.
LANES = 100

# A copy that is sent so many seconds before the provider closes the connection may cross the end.
# That is the way there, and what a busy machine adds.
CROSSING = 0.3


@dataclass
class Result:
    """What happened to the copies of one run.

    `kept` counts those on kept connections. `unknown` counts those that are UNKNOWN, by tenths of a
    second between the copy and the moment at which the provider closes the connection.
    """

    calls: int = 0
    kept: int = 0
    unknown: Counter[int] = field(default_factory=Counter)
    sent_twice: int = 0

    def __str__(self) -> str:
        return (
            f"{self.calls} copies, {self.kept} on kept connections, "
            f"{self.unknown.total()} UNKNOWN, {self.unknown_in_time} of these outside of the "
            f"crossing, {self.sent_twice} sent twice; UNKNOWN by tenths of a second before the "
            f"end: {dict(sorted(self.unknown.items()))}"
        )

    @property
    def unknown_in_time(self) -> int:
        """How many became UNKNOWN although they were sent long before the end."""
        return sum(number for tenths, number in self.unknown.items() if tenths / 10 >= CROSSING)


@contextmanager
def without_rules() -> Iterator[None]:
    """Let copies take any young connection, even if it has ended."""

    def may_carry_copy(_self: object, _origin: object, connection: http1.Connection) -> bool:
        return connection.is_new or connection.idle_seconds < IDLE_SECONDS_OF_COPIES

    with patch.object(KeptConnections, "may_carry_copy", may_carry_copy):
        yield


async def send_copies(provider: DistantProvider, calls: int) -> Result:
    """Send copies shortly before or after the provider closes their connections."""
    result = Result()
    send = http1.Connection.send
    # The copy before on a connection, and when copies on kept connections were sent.
    before: WeakKeyDictionary[http1.Connection, int] = WeakKeyDictionary()
    follows: dict[int, tuple[int, float]] = {}
    lost: list[int] = []

    def observed(self: http1.Connection, message: bytes, *more: Any) -> http1.Response:
        number = json.loads(message.partition(b"\r\n\r\n")[2])["number"]
        if self in before:
            follows[number] = before[self], monotonic()
        before[self] = number
        return send(self, message, *more)

    async def lane(first: int) -> None:
        transport = _transport(provider)
        for number in range(first, calls, LANES):
            result.calls += 1
            try:
                await transport.send_once(_request(provider, number), free_permit(), _nothing)
            except NoResponse:
                lost.append(number)
            closes = provider.closed_after.get(number, 0.0)
            await asyncio.sleep(max(0.0, closes + random.uniform(-1, 0.1)))
        await transport.close()

    with patch.object(http1.Connection, "send", observed):
        await asyncio.gather(*map(lane, range(LANES)))
    result.kept = len(follows)
    for number in lost:
        previous, sent_at = follows[number]
        result.unknown[int((provider.closed_at[previous] - sent_at) * 10 // 1)] += 1
    result.sent_twice = sum(number > 1 for number in provider.received.values())
    return result


async def measure_times(provider: DistantProvider, rounds: int) -> Mapping[str, float]:
    """Return the milliseconds of a call, without the provider's own, which are none."""
    connect_to = connecting._connect_to

    async def far(address: connecting._Address) -> object:
        # The proxy accepts a connection without a delay.
        await asyncio.sleep(ROUND_TRIP)
        return await connect_to(address)

    async def timed(transport: Transport, *, is_copy: bool) -> float:
        began, request = perf_counter(), _request(provider, 0)
        if is_copy:
            await transport.send_once(request, free_permit(), _nothing)
        else:
            await transport.send_idempotent(request, free_permit())
        return (perf_counter() - began) * 1000

    times: dict[str, list[float]] = {}
    with patch.object(connecting, "_connect_to", far):
        for is_copy in (True, False) * rounds:
            transport = _transport(provider)
            kind = "copy" if is_copy else "read"
            for state in ("new", "kept"):
                spent = await timed(transport, is_copy=is_copy)
                times.setdefault(f"{kind} on a {state} connection", []).append(spent)
            await transport.close()
    return {name: median(each) for name, each in times.items()}


def _transport(provider: DistantProvider) -> Transport:
    return Transport([], 10, provider.ca_file, health=account_health("tried", "sonarly", 60))


def _request(provider: DistantProvider, number: int) -> ProviderRequest:
    return ProviderRequest("POST", provider.url, {}, json.dumps({"number": number}).encode())


async def _nothing() -> None: ...


def around_the_limit() -> float:
    return random.uniform(IDLE_SECONDS_OF_COPIES - 1, IDLE_SECONDS_OF_COPIES + 0.5)


# The header of the provider's responses in each run. It says something wrong where it is there.
RUNS = {"no rules": "", "announced": "keep-alive: timeout=60\r\n", "silent": ""}


def run(name: str, calls: int, folder: Path) -> Result:
    """Send copies to a provider that closes idle connections around the limit for copies."""
    provider = DistantProvider(around_the_limit, RUNS[name])
    with distant(provider, folder), without_rules() if name == "no rules" else nullcontext():
        return asyncio.run(send_copies(provider, calls))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--rounds", type=int, default=20)
    chosen = parser.parse_args()
    # Each loss is a warning.
    logging.disable()
    with TemporaryDirectory() as folder:
        with distant(DistantProvider(announces="keep-alive: timeout=60\r\n"), Path(folder)) as far:
            for name, milliseconds in asyncio.run(measure_times(far, chosen.rounds)).items():
                print(f"{name:<26} {milliseconds:6.1f} ms")
        for name in RUNS:
            print(f"{name:<10} {run(name, chosen.calls, Path(folder))}")


if __name__ == "__main__":
    main()
