"""Arguments that several commands have, and the ledger that they lead to."""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from campaign_gateway.ledger import Ledger, open_ledger
from campaign_gateway.settings import SettingsError, load_ledger_settings

Result = TypeVar("Result")


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


def program() -> list[str]:
    """Return how this program was started, for commands that the operator may paste."""
    script = Path(sys.argv[0])
    if script.name == "campaign-gateway":
        return [str(script)]
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
