"""Checks the accounts of a running gateway from time to time, and keeps the last results."""

import asyncio
import logging
import random
from collections.abc import Iterable, Iterator, Mapping

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.checks.account_check import AccountCheck, check_accounts
from campaign_gateway.accounts.checks.problems import ProblemCode
from campaign_gateway.accounts.checks.report import problem_line, status_line
from campaign_gateway.model import DEFAULT_TIMING, Timing

log = logging.getLogger(__name__)


class AccountChecks:
    """The last check of each account. `first` are those that were made before the start."""

    def __init__(
        self,
        accounts: Mapping[str, Account],
        timing: Timing = DEFAULT_TIMING,
        first: Iterable[AccountCheck] = (),
    ) -> None:
        self._accounts = accounts
        self._timing = timing
        self._last: dict[str, AccountCheck] = {}
        self._first = tuple(first)

    def lines(self, names: Iterable[str]) -> Iterator[str]:
        """Yield a line for the last check of each account, and for each of its other problems."""
        for name in names:
            check = self._last.get(name)
            yield status_line(name, check)
            found = {problem.code for problem in check.problems} if check else set()
            for problem, since, failures in self._accounts[name].health.lasting():
                if problem not in found:
                    yield problem_line(name, problem, since, failures)

    async def check_for_ever(self) -> None:
        for check in self._first:
            self._keep(check)
        timing = self._timing
        await _sleep_about(
            timing.account_check_interval if self._first else timing.account_check_delay
        )
        while True:
            try:
                for check in await check_accounts(self._accounts.values()):
                    self._keep(check)
            except Exception:
                # The supervisor would repeat it after a second, and providers count the reads.
                log.exception("the check of the accounts has failed")
            await _sleep_about(self._timing.account_check_interval)

    def _keep(self, check: AccountCheck) -> None:
        """Keep the result, and report what is wrong and what is not."""
        self._last[check.account] = check
        health = self._accounts[check.account].health
        for problem in check.problems:
            health.fails(problem.code, problem.text)
        health.works(*set(ProblemCode) - {problem.code for problem in check.problems})


async def _sleep_about(seconds: float) -> None:
    # Replicas that start together must not read at the same moment for ever.
    await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - no secret depends on it
