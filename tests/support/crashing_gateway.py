"""The gateway's own command, with a stroke of fate, another clock or less patience built in.

`crashing_gateway.py TRICKS serve --config FILE`, where TRICKS is JSON:
`at` names a step, `after` how often it is passed before the process sends itself `signal` there;
without a `signal` whoever comes to the step says so and stays there, until the process is killed;
`timing` are fields of `Timing`; `constants` replaces values of modules that it does not have;
`clock` shifts the wall clock by so many seconds, and
SIGUSR1 shifts it by `jump` more; `bug` names a mistake that nobody should be able to make unseen.
"""

import asyncio
import importlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Any

from campaign_gateway import cli
from campaign_gateway.accounts import Account
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
from campaign_gateway.transport import client
from campaign_gateway.transport.errors import NoResponse

Hit = Callable[[], Awaitable[None]]

# What is said by whoever stays at a step.
STAYS = "stays at the step"


def main() -> None:
    tricks = json.loads(sys.argv.pop(1))
    if timing := tricks.get("timing"):
        _replace_timing(Timing(**timing))
    for name, value in tricks.get("constants", {}).items():
        _replace(name, value)
    if step := tricks.get("at"):
        number = signal.Signals[tricks["signal"]] if "signal" in tricks else None
        STEPS[step](_struck_after(tricks.get("after", 0), number))
    if bug := tricks.get("bug"):
        BUGS[bug]()
    if "clock" in tricks:
        _shift_clock(tricks["clock"], tricks.get("jump", 0))
    cli.main()


def _struck_after(times: int, number: signal.Signals | None) -> Hit:
    hits = itertools.count()

    async def hit() -> None:
        passed = next(hits)
        if number is None and passed >= times:
            sys.stderr.write(f"{STAYS}\n")
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


def _on_event(event: str) -> Callable[[Hit], None]:
    """When the HTTP library says so, of a request that may make a copy."""

    def install(hit: Hit) -> None:
        original = client._Exchange.trace

        async def trace(self: client._Exchange, name: str, info: object) -> None:
            await original(self, name, info)
            if name == event and self.before_first_byte is not None:
                await hit()

        client._Exchange.trace = trace  # type: ignore[method-assign, assignment]

    return install


STEPS: dict[str, Callable[[Hit], None]] = {
    "before-begin": _before(Ledger, "begin"),
    "after-begin": _after(Ledger, "begin"),
    "after-headers": _on_event("http11.send_request_headers.complete"),
    "after-request": _on_event("http11.send_request_body.complete"),
    "after-status": _on_event("http11.receive_response_headers.complete"),
    "after-answer": _after(client.Transport, "send_once"),
    "before-settle": _before(Ledger, "settle"),
    "after-settle": _after(Ledger, "settle"),
    "after-second-answer": _after(client.Transport, "send_idempotent"),
    "before-amend": _before(Ledger, "update_copy"),
    "after-amend": _after(Ledger, "update_copy"),
    "before-reply": _after(Duplicator, "duplicate"),
    "before-reading-is-settled": _before(Ledger, "settle_from_evidence"),
    "after-reading-is-settled": _after(Ledger, "settle_from_evidence"),
}


def _send_again() -> None:
    original = client.Transport.send_once

    async def send(self: client.Transport, *arguments: Any) -> Any:
        try:
            return await original(self, *arguments)
        except NoResponse:
            return await original(self, *arguments)

    client.Transport.send_once = send  # type: ignore[method-assign, assignment]


def _take_503_for_a_refusal() -> None:
    refusals = {**errors.REFUSALS, 503: ErrorCode.PROVIDER_UNAVAILABLE}
    setattr(errors, "REFUSALS", refusals)  # noqa: B010 - it is not meant to change


def _send_before_recording() -> None:
    async def begin(*_: object) -> Begun:
        return Begun()

    setattr(Ledger, "begin", begin)  # noqa: B010 - as above


def _answer_before_recording() -> None:
    original = Ledger.settle

    async def settle(
        self: Ledger,
        intent: Intent,
        outcome: Outcome,
        now: datetime,
        next_check_at: datetime | None,
        preexisting_ids: tuple[str, ...] | None = None,
    ) -> Duplication:
        found = await self.find(intent.scope, intent.key)
        assert found is not None
        asyncio.get_running_loop().call_later(
            3600, lambda: original(self, intent, outcome, now, next_check_at, preexisting_ids)
        )
        campaign = outcome.campaign if isinstance(outcome, Created) else None
        return replace(found, status=status_of(outcome), campaign=campaign)

    Ledger.settle = settle  # type: ignore[method-assign]


def _take_the_newest_campaign() -> None:
    async def find_copy(
        account: Account, _ledger: object, duplication: Duplication
    ) -> SearchResult:
        connector: Any = account.connector
        request = connector.build_search(recorded_call(account, duplication).copy_input, None)
        page = connector.parse_search(await account.transport.send_idempotent(request), None)
        return SearchResult(page.campaigns[-1] if page.campaigns else None)

    setattr(reconciliation, "find_copy", find_copy)  # noqa: B010 - as above


BUGS: dict[str, Callable[[], None]] = {
    "sends again": _send_again,
    "takes 503 for a refusal": _take_503_for_a_refusal,
    "sends before recording": _send_before_recording,
    "answers before recording": _answer_before_recording,
    "takes the newest campaign": _take_the_newest_campaign,
}


def _replace_timing(timing: Timing) -> None:
    setattr(cli, "create_app", partial(create_app, timing=timing))  # noqa: B010 - as above


def _replace(name: str, value: Any) -> None:
    """`ledger.room.STEP_PAGES` is `STEP_PAGES` of that module of the gateway."""
    module_name, _, constant = name.rpartition(".")
    module = importlib.import_module(f"campaign_gateway.{module_name}")
    assert hasattr(module, constant)
    setattr(module, constant, value)


def _shift_clock(seconds: float, jump: float) -> None:
    """Every wall clock the gateway asks; the monotonic ones go on as they do on any machine."""
    shift = [seconds]
    real_time, real_time_ns = time.time, time.time_ns

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=shift[0])

    time.time = lambda: real_time() + shift[0]
    time.time_ns = lambda: real_time_ns() + round(shift[0] * 1e9)
    for name, module in list(sys.modules.items()):
        if name.startswith("campaign_gateway.") and getattr(module, "datetime", None) is datetime:
            setattr(module, "datetime", Shifted)  # noqa: B010 - no module says that it has one

    def leap(_number: int, _frame: object) -> None:
        shift[0] += jump
        sys.stderr.write(f"the clock says {Shifted.now(UTC)}\n")

    signal.signal(signal.SIGUSR1, leap)


if __name__ == "__main__":
    main()
