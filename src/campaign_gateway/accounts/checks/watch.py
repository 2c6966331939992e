"""Checks the accounts of a running gateway from time to time, and keeps the last results."""

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.checks.account_check import AccountCheck, check_accounts
from campaign_gateway.accounts.checks.report import status_line
from campaign_gateway.model import DEFAULT_TIMING, Timing

log = logging.getLogger(__name__)


class AccountChecks:
    """The last check of each account."""

    def __init__(self, accounts: Mapping[str, Account], timing: Timing = DEFAULT_TIMING) -> None:
        self._accounts = accounts
        self._timing = timing
        self._last: dict[str, AccountCheck] = {}

    def lines(self, names: Iterable[str]) -> list[str]:
        """Return a line for each of the accounts."""
        return [status_line(name, self._last.get(name)) for name in names]

    async def check_for_ever(self) -> None:
        await _sleep_about(self._timing.account_check_delay)
        while True:
            try:
                for check in await check_accounts(self._accounts.values()):
                    self._keep(check)
            except Exception:
                # The supervisor would repeat it after a second, and providers count the reads.
                log.exception("the check of the accounts has failed")
            await _sleep_about(self._timing.account_check_interval)

    def _keep(self, check: AccountCheck) -> None:
        """Keep the result. Log what is wrong when it begins, and that it has ended."""
        before = self._last.get(check.account)
        known = {problem.code for problem in before.problems} if before else set()
        self._last[check.account] = check
        for problem in check.problems:
            if problem.code not in known:
                log.warning("account %s: %s", check.account, problem.text)
        if known and check.is_ok:
            log.warning("account %s: the check finds nothing wrong any more", check.account)


async def _sleep_about(seconds: float) -> None:
    # Replicas that start together must not read at the same moment for ever.
    await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - no secret depends on it
