"""The command `campaign-gateway`."""

import argparse
import asyncio
import gc
import logging
import re
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from campaign_gateway import observe
from campaign_gateway.accounts.checks.account_check import AccountCheck
from campaign_gateway.accounts.transport.redaction import create_redactor
from campaign_gateway.api.schema import client_sdl, federation_sdl
from campaign_gateway.app import create_app, metrics_app
from campaign_gateway.commands import duplications, ledger
from campaign_gateway.commands.arguments import UnknownAccount, add_config, config_of
from campaign_gateway.commands.check import SecretRefused, check, check_before_start
from campaign_gateway.connectors.account_settings import NAME
from campaign_gateway.connectors.registry import installed, packages_of
from campaign_gateway.duplication.manual_resolution import CannotResolve
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.observe.events import started
from campaign_gateway.observe.log import log_to_stderr
from campaign_gateway.observe.traces import export_spans
from campaign_gateway.settings import Settings, SettingsError, load_log_settings, load_settings
from campaign_gateway.web.callers.keys import create_key
from campaign_gateway.web.server.event_loop import new_event_loop
from campaign_gateway.web.server.metrics_server import serving_metrics
from campaign_gateway.web.server.server import CannotListen, create_server, listen

MAX_DAYS = 36500

# How many more objects may be made than freed until Python searches for garbage. The calls in
# progress have thousands, and a search among them finds nothing. One of this size takes 3 ms.
GARBAGE_THRESHOLD = 10_000


def main() -> None:
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except SettingsError as error:
        sys.exit(
            "The configuration is invalid:\n" + "\n".join(f"  {line}" for line in error.errors)
        )
    except (CannotListen, SecretRefused) as error:
        sys.exit(f"The gateway cannot start: {error}")
    except UnknownAccount as error:
        arguments.parser.error(str(error))
    except (LedgerUnavailable, CannotResolve) as error:
        sys.exit(f"campaign-gateway: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="campaign-gateway",
        description="One GraphQL mutation that copies a campaign at any marketing platform.",
    )
    parser.add_argument("--version", action="version", version=f"campaign-gateway {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve the configured accounts")
    add_config(serve)
    serve.add_argument("--host", help="overrides the configured host")
    serve.add_argument("--port", type=_port, help="overrides the configured port")
    serve.add_argument(
        "--check",
        action="store_true",
        help="check the accounts first, and do not start if a secret is refused",
    )
    serve.set_defaults(run=_serve)

    checked = commands.add_parser(
        "check",
        help="check the accounts with reads at their providers. The exit status is 1 if an account "
        "has a problem. The ledger is not checked: /readyz of a gateway shows it",
    )
    checked.add_argument("accounts", metavar="ACCOUNT", nargs="*", help="default: all accounts")
    checked.add_argument("--json", action="store_true", help="print JSON")
    add_config(checked)
    checked.set_defaults(run=_check, parser=checked)

    sandbox = commands.add_parser("sandbox", help="serve with an emulator of each provider")
    sandbox.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    sandbox.add_argument("--port", type=_port, default=8000, help="default: 8000")
    sandbox.add_argument(
        "--ledger",
        metavar="FILE",
        type=Path,
        help="the SQLite file of the ledger; default: a temporary file",
    )
    sandbox.set_defaults(run=_sandbox)

    settling = commands.add_parser(
        "duplications", help="list duplications, and record results that you checked yourself"
    )
    duplications.add_verbs(settling)

    kept = commands.add_parser("ledger", help="back up the ledger, and make a restored one safe")
    ledger.add_verbs(kept)

    key = commands.add_parser("key", help="create a key with which a caller calls the gateway")
    key_verbs = key.add_subparsers(required=True, metavar="VERB")
    created = key_verbs.add_parser("create", help="print a new key, and the hash to store")
    created.add_argument("name", metavar="NAME", type=_caller_name, help="the caller's name")
    created.add_argument(
        "--days", type=_days, help="for how many days the key is valid; default: it does not expire"
    )
    created.set_defaults(run=_create_key)

    alerts = commands.add_parser("alerts", help="print the alert rules for Prometheus")
    alerts.set_defaults(run=lambda _: _print_file("alerts.yml"))
    dashboard = commands.add_parser("dashboard", help="print the dashboard for Grafana")
    dashboard.set_defaults(run=lambda _: _print_file("dashboard.json"))

    schema = commands.add_parser("schema", help="print the GraphQL schema for clients")
    schema.add_argument(
        "--federation",
        action="store_true",
        help="print the schema of the subgraph, for a federation composer",
    )
    schema.set_defaults(run=_schema)
    return parser


def _print_file(name: str) -> None:
    sys.stdout.write((resources.files(observe) / name).read_text("utf-8"))


def _version() -> str:
    try:
        return version("campaign-gateway")
    except PackageNotFoundError:
        return "without a version: the package is not installed"


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be a number from 0 to 65535")
    return int(text)


def _caller_name(text: str) -> str:
    if not re.fullmatch(NAME, text):
        raise argparse.ArgumentTypeError("has up to 64 letters, digits, '.', '_' or '-'")
    return text


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_DAYS:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {MAX_DAYS}")
    return int(text)


def _serve(arguments: argparse.Namespace) -> None:
    config = config_of(arguments)
    log_settings = load_log_settings(config)
    formatter = log_to_stderr(log_settings.format, log_settings.level)
    settings = load_settings(config)
    formatter.redact = create_redactor(settings.secrets())
    host = arguments.host or settings.server.host
    port = settings.server.port if arguments.port is None else arguments.port
    settings = settings.at(host, port)
    checks = check_before_start(settings) if arguments.check else ()
    stop_traces = export_spans(_version())
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_serve_until_stopped(settings, checks))
    finally:
        stop_traces()


async def _serve_until_stopped(settings: Settings, checks: Sequence[AccountCheck] = ()) -> None:
    host, metrics = settings.server.host, settings.metrics
    log = logging.getLogger(__name__)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listen(host, settings.server.port))
        metrics_listener = None
        if metrics.port is not None:
            metrics_listener = listen(metrics.host, metrics.port, "metrics.port")
            stack.enter_context(metrics_listener)
        accounts = {name: account.provider for name, account in settings.accounts.items()}
        packages = packages_of(accounts.values())
        started(_version(), settings.ledger.kind, list(settings.callers), accounts, packages)
        app = await create_app(settings, checks=checks)
        server = create_server(app, [host, *settings.server.hosts])
        # What is loaded now stays. A search for garbage among it would delay a request by 80 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_THRESHOLD)
        log.info("listening on %s port %s", *listener.getsockname()[:2])
        if metrics_listener is not None:
            log.info("serving metrics on %s port %s", *metrics_listener.getsockname()[:2])
            hosts = [metrics.host, *settings.server.hosts]
            await stack.enter_async_context(
                serving_metrics(metrics_app(), hosts, app.state.gateway, metrics_listener)
            )
        await server.serve(sockets=[listener])
    log.info("stopped")


def _check(arguments: argparse.Namespace) -> None:
    formatter = log_to_stderr("text", "error")
    settings = load_settings(config_of(arguments))
    formatter.redact = create_redactor(settings.secrets())
    sys.exit(0 if check(settings, arguments.accounts, is_json=arguments.json) else 1)


def _sandbox(arguments: argparse.Namespace) -> None:
    from campaign_gateway.sandbox.sandbox import run_sandbox  # noqa: PLC0415 - not for `serve`

    # The person at the terminal tries failures, and sees them in the responses.
    log_to_stderr("text", "error")
    asyncio.run(run_sandbox(arguments.host, arguments.port, arguments.ledger))


KEY_CREATED = """\
This is the key. It is shown only now. Give it to {name}, which sends it in this header:
  Authorization: Bearer {key}

This is its hash, which the gateway needs. The key cannot be computed from it:
  {stored}

{until}Store the hash where the gateway finds it, for example in an environment variable:
  {variable}={stored}

And add the caller to the configuration, with the accounts that it may use:
  [callers.{name}]
  key = {{ env = "{variable}" }}
  accounts = ["*"]
  may = ["copy", "read"]
"""


def _create_key(arguments: argparse.Namespace) -> None:
    # One more, because the key ends when that day begins.
    ends_on = arguments.days and datetime.now(UTC).date() + timedelta(days=arguments.days + 1)
    key, stored = create_key(ends_on)
    variable = re.sub(r"[.-]", "_", arguments.name).upper() + "_KEY_HASH"
    until = f"The key is valid until {ends_on} begins, in UTC.\n" if ends_on else ""
    sys.stdout.write(
        KEY_CREATED.format(
            name=arguments.name, key=key, stored=stored, variable=variable, until=until
        )
    )


def _schema(arguments: argparse.Namespace) -> None:
    connectors, errors = installed()
    for error in errors:
        sys.stderr.write(f"The schema has no {error}\n")
    sys.stdout.write(federation_sdl(connectors) if arguments.federation else client_sdl(connectors))
