"""The command `ledger`: makes a backup, and makes a restored one safe to serve from."""

import argparse
import asyncio
import sys
from pathlib import Path

from campaign_gateway.commands.arguments import add_config, age, config_of, with_ledger
from campaign_gateway.commands.duplication_texts import in_utc
from campaign_gateway.ledger import Ledger, declare_ledger_restored
from campaign_gateway.ledger.backup import back_up
from campaign_gateway.observe.log import log_to_stderr
from campaign_gateway.settings import load_ledger_settings

BACKED_UP = """\
The backup is in {file}. It has no records from {made_at} on.
If you restore it, run `campaign-gateway ledger restored` before you start a gateway.
"""

RESTORED = """\
This ledger has no records from {began_at} to {ended_at}. Gateways may serve from it now:
- A new key is refused with IDEMPOTENCY_KEY_EXPIRED if it may have been used in that time. UUIDs of
  version 7 that were made later are accepted.
- Keys that do not show when they were made are accepted from {refused_until} on.
- If a search finds a campaign that was created in that time, an operator has to decide about it.
"""

ACCEPTED = """\
From now on, new keys that do not show when they were made are accepted. Restart the gateways.
"""


def add_verbs(ledger: argparse.ArgumentParser) -> None:
    verbs = ledger.add_subparsers(required=True, metavar="VERB")

    backup = verbs.add_parser("backup", help="copy the ledger to a file while gateways use it")
    backup.add_argument("file", metavar="FILE", type=Path, help="a new file, with the mode 0600")
    add_config(backup)
    backup.set_defaults(run=_back_up)

    restored = verbs.add_parser(
        "restored", help="make a restored ledger safe to use; stop all gateways first"
    )
    restored.add_argument(
        "--refuse-for",
        metavar="TIME",
        type=age,
        default="7d",
        help="how long new keys without a time in them are refused, such as 12h; default: 7d",
    )
    add_config(restored)
    restored.set_defaults(run=_declare_restored)

    accepted = verbs.add_parser(
        "accept-keys",
        help="accept keys without a time in them again, when no client has an old one any more",
    )
    add_config(accepted)
    accepted.set_defaults(run=_accept_keys)


def _url(arguments: argparse.Namespace) -> str:
    return load_ledger_settings(config_of(arguments)).url.get_secret_value()


def _back_up(arguments: argparse.Namespace) -> None:
    made_at = back_up(_url(arguments), arguments.file)
    sys.stdout.write(BACKED_UP.format(file=arguments.file, made_at=in_utc(made_at)))


def _declare_restored(arguments: argparse.Namespace) -> None:
    log_to_stderr("text", "warning")
    lost = asyncio.run(declare_ledger_restored(_url(arguments), arguments.refuse_for))
    times = (lost.began_at, lost.ended_at, lost.refused_until)
    began_at, ended_at, refused_until = map(in_utc, times)
    sys.stdout.write(
        RESTORED.format(began_at=began_at, ended_at=ended_at, refused_until=refused_until)
    )


def _accept_keys(arguments: argparse.Namespace) -> None:
    async def accept(ledger: Ledger) -> bool:
        return await ledger.accept_all_keys()

    is_changed = with_ledger(arguments, accept)
    sys.stdout.write(
        ACCEPTED
        if is_changed
        else "Nothing was changed: the gateway refuses no keys because of a restore.\n"
    )
