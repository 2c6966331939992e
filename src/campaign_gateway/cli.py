"""The command `campaign-gateway`."""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from campaign_gateway.api.schema import client_sdl, federation_sdl
from campaign_gateway.app import create_app
from campaign_gateway.ledger.contract import LedgerUnavailable
from campaign_gateway.sandbox import run_sandbox
from campaign_gateway.server import CannotListen, create_server, listen, log_to_stderr
from campaign_gateway.settings import Settings, SettingsError, load_settings


def main() -> None:
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except SettingsError as error:
        sys.exit(
            "The configuration cannot be used:\n" + "\n".join(f"  {m}" for m in error.mistakes)
        )
    except (CannotListen, LedgerUnavailable) as error:
        sys.exit(f"The gateway cannot start: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="campaign-gateway",
        description="One GraphQL mutation that copies a campaign at any marketing platform.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve the configured accounts")
    serve.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=os.environ.get("CAMPAIGN_GATEWAY_CONFIG"),
        help="the TOML file (also the environment variable CAMPAIGN_GATEWAY_CONFIG)",
    )
    serve.add_argument("--host", help="in place of the configured one")
    serve.add_argument("--port", type=_port, help="in place of the configured one")
    serve.set_defaults(run=_serve)

    sandbox = commands.add_parser("sandbox", help="serve against emulators of all providers")
    sandbox.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    sandbox.add_argument("--port", type=_port, default=8000, help="default: 8000")
    sandbox.add_argument(
        "--ledger",
        metavar="FILE",
        type=Path,
        help="keep the ledger there; default: a temporary one",
    )
    sandbox.set_defaults(run=_sandbox)

    schema = commands.add_parser("schema", help="print the GraphQL schema for clients")
    schema.add_argument(
        "--federation", action="store_true", help="print the subgraph's, for a composer"
    )
    schema.set_defaults(run=_schema)
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be a number from 0 to 65535")
    return int(text)


def _serve(arguments: argparse.Namespace) -> None:
    if arguments.config is None:
        raise SettingsError(["give a file with --config or in CAMPAIGN_GATEWAY_CONFIG"])
    settings = load_settings(Path(arguments.config))
    host = arguments.host or settings.server.host
    port = settings.server.port if arguments.port is None else arguments.port
    log_to_stderr()
    asyncio.run(_serve_until_stopped(settings, host, port))


async def _serve_until_stopped(settings: Settings, host: str, port: int) -> None:
    listener = listen(host, port)
    server = create_server(create_app(settings))
    logging.getLogger(__name__).info("listening on %s port %s", *listener.getsockname()[:2])
    await server.serve(sockets=[listener])


def _sandbox(arguments: argparse.Namespace) -> None:
    log_to_stderr()
    logging.getLogger().setLevel(logging.WARNING)
    asyncio.run(run_sandbox(arguments.host, arguments.port, arguments.ledger))


def _schema(arguments: argparse.Namespace) -> None:
    sys.stdout.write(federation_sdl() if arguments.federation else client_sdl())
