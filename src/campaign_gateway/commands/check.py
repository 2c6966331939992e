"""The command `check`, and the check before the start of `serve`."""

import asyncio
import json
import logging
import sys
from collections.abc import Iterable, Sequence

from campaign_gateway.accounts.account import open_account
from campaign_gateway.accounts.checks.account_check import AccountCheck, Secret, check_accounts
from campaign_gateway.accounts.checks.report import as_json, table
from campaign_gateway.commands.arguments import require_account
from campaign_gateway.settings import Settings

log = logging.getLogger(__name__)


class SecretRefused(Exception):
    """A provider refuses the secret of an account."""


def check(settings: Settings, names: Sequence[str], *, is_json: bool) -> bool:
    """Check the named accounts, or all, and print the results. Return whether nothing is wrong.

    Raises `UnknownAccount`.
    """
    for name in names:
        require_account(name, settings.accounts)
    checks = asyncio.run(_check(settings, names or list(settings.accounts)))
    if is_json:
        text = json.dumps([as_json(each) for each in checks], indent=2)
    else:
        text = "\n".join(table(checks))
    sys.stdout.write(text + "\n")
    return all(each.is_ok for each in checks)


def check_before_start(settings: Settings) -> Sequence[AccountCheck]:
    """Check all accounts. Raises `SecretRefused`. The gateway reports everything else."""
    checks = asyncio.run(_check(settings, settings.accounts))
    refused = [each.account for each in checks if each.secret is Secret.REFUSED]
    if refused:
        for each in checks:
            for problem in each.problems:
                log.warning("account %s: %s", each.account, problem.text)
        raise SecretRefused(
            f"the secret of these accounts is refused: {', '.join(refused)}. The log has the "
            "reasons. Without --check the gateway starts."
        )
    return checks


async def _check(settings: Settings, names: Iterable[str]) -> Sequence[AccountCheck]:
    accounts = [open_account(name, settings.accounts[name]) for name in dict.fromkeys(names)]
    try:
        return await check_accounts(accounts)
    finally:
        for account in accounts:
            await account.transport.close()
