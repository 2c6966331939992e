"""Arguments that several commands have."""

import argparse
import os
import sys
from pathlib import Path

from campaign_gateway.settings import SettingsError


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
