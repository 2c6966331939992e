"""The gateway's own command with changes: death at a step, another clock, other constants, a bug.

`crashing_gateway.py CHANGES serve --config FILE`. CHANGES is a JSON object with these keys:
- `at` names a step of a call, see `STEPS`. The process sends itself `signal` there, after the step
  was passed `after` times. Without a `signal`, each call that comes to the step writes a line to
  the log and waits there.
- `timing` has fields of `Timing`. `constants` maps other constants, such as
  `ledger.disk_reserve.LOG_BYTES`, to their new values.
- `clock` shifts the wall clock by that many seconds. SIGUSR1 shifts it by `jump` more.
- `bug` names one of `BUGS`, which the promise checks must find.
"""

import asyncio
import importlib
import itertools
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Any, Self

from campaign_gateway import cli
from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.transport import client, http1
from campaign_gateway.accounts.transport.errors import NoResponse
from campaign_gateway.accounts.transport.rate_limit import Permit
from campaign_gateway.app import create_app
from campaign_gateway.connectors import errors
from campaign_gateway.duplication import reconciliation
from campaign_gateway.duplication.copy_search import SearchResult
from campaign_gateway.duplication.intents import recorded_call
from campaign_gateway.duplication.service import Duplicator
from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.ledger import Begun
from campaign_gateway.model import (
    Created,
    Duplication,
    ErrorCode,
    Intent,
    Outcome,
    Timing,
    status_of,
)

Hit = Callable[[], Coroutine[Any, Any, None]]

# The line in the log for each call that waits at a step.
WAITS_AT_STEP = "waits at the step"


def main() -> None:
    changes = json.loads(sys.argv.pop(1))
    # The reads of a check would be counted among the calls to the provider.
    timing = Timing(**{"account_check_delay": 3600, **changes.get("timing", {})})
    _replace(cli, "create_app", partial(create_app, timing=timing))
    for name, value in changes.get("constants", {}).items():
        module, _, constant = name.rpartition(".")
        _replace(importlib.import_module(f"campaign_gateway.{module}"), constant, value)
    if step := changes.get("at"):
        number = signal.Signals[changes["signal"]] if "signal" in changes else None
        STEPS[step](_struck_after(changes.get("after", 0), number))
    if bug := changes.get("bug"):
        BUGS[bug]()
    if "clock" in changes:
        _shift_clock(changes["clock"], changes.get("jump", 0))
    cli.main()


def _struck_after(times: int, number: signal.Signals | None) -> Hit:
    hits = itertools.count()

    async def hit() -> None:
        passed = next(hits)
        if number is None and passed >= times:
            sys.stderr.write(f"{WAITS_AT_STEP}\n")
            await asyncio.Event().wait()
        elif passed == times and number is not None:
            os.kill(os.getpid(), number)

    return hit


def _around(owner: type, name: str, before: Hit, after: Hit) -> None:
    original = getattr(owner, name)

    async def wrapped(*arguments: Any, **named: Any) -> Any:
        await before()
        result = await original(*arguments, **named)
        await after()
        return result

    setattr(owner, name, wrapped)


async def _pass() -> None: ...


def _before(owner: type, name: str) -> Callable[[Hit], None]:
    return lambda hit: _around(owner, name, hit, _pass)


def _after(owner: type, name: str) -> Callable[[Hit], None]:
    return lambda hit: _around(owner, name, _pass, hit)


# The first bytes of a request for a copy.
COPY = re.compile(rb"POST \S+/duplicate ")


def _while_sending(step: str) -> Callable[[Hit], None]:
    """Return a step of a request for a copy: `head` or `body` is written, or `status` is read."""

    def install(hit: Hit) -> None:
        original = http1.Connection.send

        def hit_now() -> None:
            # None of these steps can wait.
            with suppress(StopIteration):
                hit().send(None)

        def send(self: http1.Connection, message: bytes, limit: int, *more: Any) -> http1.Response:
            if not COPY.match(message):
                return original(self, message, limit, *more)
            if step == "status":
                return original(self, message, limit, hit_now)
            end = message.index(b"\r\n\r\n") + 4 if step == "head" else len(message)
            response = original(self, message[:end], limit)
            hit_now()
            self.transport.write(message[end:])
            return response

        _replace(http1.Connection, "send", send)

    return install


STEPS: dict[str, Callable[[Hit], None]] = {
    "before-begin": _before(Ledger, "begin"),
    "after-begin": _after(Ledger, "begin"),
    "after-headers": _while_sending("head"),
    "after-request": _while_sending("body"),
    "after-status": _while_sending("status"),
    "after-response": _after(client.Transport, "send_once"),
    "before-settle": _before(Ledger, "settle"),
    "after-settle": _after(Ledger, "settle"),
    "after-second-response": _after(client.Transport, "send_idempotent"),
    "before-update": _before(Ledger, "update_copy"),
    "after-update": _after(Ledger, "update_copy"),
    "before-reply": _after(Duplicator, "duplicate"),
    "before-evidence-is-settled": _before(Ledger, "settle_from_evidence"),
    "after-evidence-is-settled": _after(Ledger, "settle_from_evidence"),
}


def _send_again() -> None:
    original = client.Transport.send_once

    async def send(self: client.Transport, *arguments: Any) -> Any:
        try:
            return await original(self, *arguments)
        except NoResponse:
            return await original(self, *arguments)

    _replace(client.Transport, "send_once", send)


def _take_503_for_a_refusal() -> None:
    refusals = {**errors.REFUSALS, 503: ErrorCode.PROVIDER_UNAVAILABLE}
    _replace(errors, "REFUSALS", refusals)


def _send_before_recording() -> None:
    async def begin(*_: object) -> Begun:
        return Begun()

    _replace(Ledger, "begin", begin)


def _respond_before_recording() -> None:
    original = Ledger.settle

    async def settle(
        self: Ledger,
        intent: Intent,
        outcome: Outcome,
        now: datetime,
        next_check_at: datetime | None,
        preexisting_ids: tuple[str, ...] | None = None,
    ) -> Duplication:
        record = await self.find(intent.scope, intent.key)
        assert record is not None
        asyncio.get_running_loop().call_later(
            3600, lambda: original(self, intent, outcome, now, next_check_at, preexisting_ids)
        )
        campaign = outcome.campaign if isinstance(outcome, Created) else None
        return replace(record, status=status_of(outcome), campaign=campaign)

    _replace(Ledger, "settle", settle)


def _take_the_newest_campaign() -> None:
    async def find_copy(
        account: Account, permit: Permit, _ledger: object, duplication: Duplication
    ) -> SearchResult:
        connector: Any = account.connector
        request = connector.build_search(recorded_call(account, duplication).copy_input, None)
        page = connector.parse_search(
            await account.transport.send_idempotent(request, permit), None
        )
        return SearchResult(page.campaigns[-1] if page.campaigns else None)

    _replace(reconciliation, "find_copy", find_copy)


BUGS: dict[str, Callable[[], None]] = {
    "sends again": _send_again,
    "takes 503 for a refusal": _take_503_for_a_refusal,
    "sends before recording": _send_before_recording,
    "responds before recording": _respond_before_recording,
    "takes the newest campaign": _take_the_newest_campaign,
}


def _replace(owner: object, name: str, value: object) -> None:
    """Replace an attribute of a module or a class. mypy would reject the assignment."""
    assert hasattr(owner, name), f"{owner} has no {name}"
    setattr(owner, name, value)


def _shift_clock(seconds: float, jump: float) -> None:
    """Shift every wall clock that the gateway reads. The monotonic clocks stay right."""
    shift = [seconds]
    real_time, real_time_ns = time.time, time.time_ns

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(seconds=shift[0])

    time.time = lambda: real_time() + shift[0]
    time.time_ns = lambda: real_time_ns() + round(shift[0] * 1e9)
    for name, module in list(sys.modules.items()):
        if name.startswith("campaign_gateway.") and getattr(module, "datetime", None) is datetime:
            _replace(module, "datetime", Shifted)

    def leap(_number: int, _frame: object) -> None:
        shift[0] += jump
        sys.stderr.write(f"the clock says {Shifted.now(UTC)}\n")

    signal.signal(signal.SIGUSR1, leap)


if __name__ == "__main__":
    main()
