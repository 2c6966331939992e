"""The lasting problems of an account or of the ledger: each is logged when it begins and ends."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

log = logging.getLogger(__name__)

# How often a problem that lasts is logged again, in seconds.
REPEAT_SECONDS = 600.0

# What stays to be done when a problem is over.
REMAINS: Mapping[str, str] = {
    "OUTCOME_UNKNOWN": ". What is UNKNOWN stays so until a search finds it or an operator settles "
    "it: see `campaign-gateway duplications list`",
}


@dataclass(slots=True)
class _Open:
    """A problem that lasts. `since` is in UTC, the other times are monotonic."""

    since: str
    began_at: float
    logged_at: float
    failures: int = 0
    ending: asyncio.TimerHandle | None = None


class Health:
    """What is wrong with `subject`, such as "account main:". It begins each message,
    and `fields` are in each line.

    A problem is over when `quiet_seconds` have passed since it last worked, without a failure in
    between. Without that pause, a limit that is reached every second would be two lines a second.
    """

    def __init__(self, subject: str, quiet_seconds: float, **fields: str) -> None:
        self.fields = fields
        self._subject = subject
        self._quiet_seconds = quiet_seconds
        self._open: dict[str, _Open] = {}

    def fails(self, problem: str, reason: str) -> None:
        """Note a failure, and log it if the problem is new or was logged long ago.

        `problem` is one of few names. After a blank, it may have the call that fails.
        """
        now = monotonic()
        current = self._open.get(problem)
        is_new = current is None
        if current is None:
            since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            current = self._open[problem] = _Open(since, began_at=now, logged_at=now)
        current.failures += 1
        if current.ending is not None:
            current.ending.cancel()
            current.ending = None
        if not is_new and now - current.logged_at < REPEAT_SECONDS:
            return
        current.logged_at = now
        fields = {
            "event": "problem",
            **_names(problem),
            "since": None if is_new else current.since,
            "failures": None if is_new else current.failures,
            **self.fields,
        }
        so_far = (
            "" if is_new else f" (since {current.since}, {counted(current.failures, 'failure')})"
        )
        log.warning("%s %s%s", self._subject, reason, so_far, extra={"fields": fields})

    def lasting(self) -> Iterator[tuple[str, str, int]]:
        """Yield each problem that is there, with its beginning in UTC and its failures."""
        for problem, current in self._open.items():
            yield problem, current.since, current.failures

    def works(self, *problems: str) -> None:
        """Note that none of these problems is there now."""
        if not self._open:
            return
        for problem in problems:
            current = self._open.get(problem)
            if current is not None and current.ending is None:
                loop = asyncio.get_running_loop()
                current.ending = loop.call_later(self._quiet_seconds, self._end, problem)

    def _end(self, problem: str) -> None:
        ended = self._open.pop(problem)
        seconds = round(monotonic() - ended.began_at)
        fields = {
            "event": "problem_over",
            **_names(problem),
            "since": ended.since,
            "failures": ended.failures,
            "seconds": seconds,
            **self.fields,
        }
        log.warning(
            "%s is over after %s in %s seconds; it began at %s%s",
            f"{self._subject} {problem}",
            counted(ended.failures, "failure"),
            seconds,
            ended.since,
            REMAINS.get(problem, ""),
            extra={"fields": fields},
        )


def _names(problem: str) -> dict[str, str | None]:
    """Return a problem as members of a line, so that a search finds it with every call."""
    name, _, call = problem.partition(" ")
    return {"problem": name, "call": call or None}


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def ledger_health(kind: str, quiet_seconds: float) -> Health:
    return Health("the ledger", quiet_seconds, ledger=kind)


def account_health(account: str, provider: str, quiet_seconds: float) -> Health:
    return Health(f"account {account}:", quiet_seconds, account=account, provider=provider)
