"""Arguments that several commands have, and the ledger that they lead to."""

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from campaign_gateway.ledger import Ledger, open_ledger
from campaign_gateway.settings import SettingsError, load_ledger_settings

Result = TypeVar("Result")

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
MAX_AGE = timedelta(days=36500)


class UnknownAccount(Exception):
    """There is no account with this name."""


def require_account(name: str, known: Collection[str]) -> None:
    """Raises `UnknownAccount`."""
    if name not in known:
        raise UnknownAccount(f"there is no account {name}; there are: {', '.join(known) or 'none'}")


def add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=os.environ.get("CAMPAIGN_GATEWAY_CONFIG"),
        help="the TOML file; default: the environment variable CAMPAIGN_GATEWAY_CONFIG",
    )


def config_of(arguments: argparse.Namespace) -> Path:
    """Raises `SettingsError`."""
    if arguments.config is None:
        raise SettingsError(["set the file with --config or CAMPAIGN_GATEWAY_CONFIG"])
    return Path(arguments.config)


def age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    length = timedelta(**{UNITS[match[2]]: int(match[1])}) if match else None
    if length is None or length > MAX_AGE:
        raise argparse.ArgumentTypeError("must be a number with a unit, such as 90s, 30m, 2h or 7d")
    return length


def program() -> list[str]:
    """Return how this program was started, for commands that the operator may paste."""
    script = Path(sys.argv[0])
    if script.name == "campaign-gateway":
        return [str(script.absolute() if len(script.parts) > 1 else script)]
    return [sys.executable, "-m", "campaign_gateway"]


def with_ledger(
    arguments: argparse.Namespace, work: Callable[[Ledger], Awaitable[Result]]
) -> Result:
    """Open the configured ledger for `work`, while gateways may use it too."""
    url = load_ledger_settings(config_of(arguments)).url.get_secret_value()

    async def open_and_work() -> Result:
        ledger = await open_ledger(url, as_operator=True)
        try:
            return await work(ledger)
        finally:
            await ledger.close()

    return asyncio.run(open_and_work())
