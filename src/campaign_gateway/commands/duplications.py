"""The command `duplications`: what is not settled, and what an operator records of it."""

import argparse
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from campaign_gateway.commands import resolution
from campaign_gateway.commands.arguments import (
    add_config,
    age,
    config_of,
    program,
    require_account,
    with_ledger,
)
from campaign_gateway.commands.duplication_texts import (
    as_json,
    description,
    history_json,
    listing,
    to_json,
)
from campaign_gateway.connectors.registry import UnusableConnector, find_connector
from campaign_gateway.duplication.copy_search import can_search
from campaign_gateway.duplication.manual_resolution import UNSETTLED, get
from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.engine import Cursor
from campaign_gateway.model import Duplication, DuplicationStatus, Selection
from campaign_gateway.settings import load_account_names

PAGE_SIZE = 500


# Arguments


def add_verbs(duplications: argparse.ArgumentParser) -> None:
    verbs = duplications.add_subparsers(required=True, metavar="VERB")

    listed = verbs.add_parser("list", help="list unsettled duplications, newest first")
    listed.add_argument("--all", action="store_true", help="list settled duplications too")
    listed.add_argument(
        "--status",
        choices=list(DuplicationStatus),
        help="list only duplications with this status, also a settled one; with or without --all",
    )
    listed.add_argument(
        "--account", metavar="NAME", type=resolution.name, help="list only those of this account"
    )
    listed.add_argument(
        "--caller", metavar="NAME", type=resolution.name, help="list only those of this caller"
    )
    listed.add_argument(
        "--older-than",
        metavar="AGE",
        type=age,
        help="list only those that were requested longer ago than this: 90s, 30m, 2h, 7d",
    )
    _add_output(listed)
    listed.set_defaults(run=_list, parser=listed)

    shown = verbs.add_parser(
        "show", help="show one duplication, its history, and what may be its copy"
    )
    _add_id(shown)
    _add_output(shown)
    shown.set_defaults(run=_show)

    resolved = verbs.add_parser("resolve", help="record what you saw at the provider")
    _add_id(resolved)
    result = resolved.add_mutually_exclusive_group(required=True)
    result.add_argument(
        "--created", metavar="CAMPAIGN_ID", help="the copy exists and has this campaign id"
    )
    result.add_argument("--absent", action="store_true", help="there is no copy")
    resolved.add_argument(
        "--unchecked",
        action="store_true",
        help="do not read at the provider; then no secret is needed except the ledger's URL",
    )
    _add_note(resolved)
    _add_output(resolved)
    resolved.set_defaults(run=_resolve)

    reopened = verbs.add_parser("reopen", help="withdraw a result that an operator recorded")
    _add_id(reopened)
    _add_note(reopened)
    _add_output(reopened)
    reopened.set_defaults(run=_reopen)


def _add_id(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "id", metavar="ID", type=resolution.name, help="the duplication's id, as `list` shows it"
    )


def _add_output(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="print JSON")
    add_config(verb)


def _add_note(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--yes", action="store_true", help="do not ask; needs --why")
    verb.add_argument(
        "--by",
        metavar="NAME",
        type=resolution.name,
        help="who you are, for the history; default: the user of this machine",
    )
    verb.add_argument(
        "--why", metavar="TEXT", type=resolution.reason, help="the reason, for the history"
    )


# list and show


def _list(arguments: argparse.Namespace) -> None:
    async def read(ledger: Ledger) -> list[Duplication]:
        every = None if arguments.all else UNSETTLED
        statuses = (DuplicationStatus(arguments.status),) if arguments.status else every
        older_than = arguments.older_than
        selection = Selection(
            statuses=statuses,
            account=arguments.account,
            caller=arguments.caller,
            until=None if older_than is None else ledger.now() - older_than,
        )
        found = [duplication async for duplication in _all(ledger, selection)]
        if not found and arguments.account is not None:
            # An account that was renamed or removed is only in the ledger.
            recorded = await ledger.accounts()
            require_account(arguments.account, [*configured, *sorted(recorded - {*configured})])
        return found

    configured = load_account_names(config_of(arguments))
    duplications = with_ledger(arguments, read)
    if arguments.json:
        sys.stdout.write(to_json([as_json(duplication) for duplication in duplications]))
    else:
        sys.stdout.write(listing(duplications))


async def _all(ledger: Ledger, selection: Selection) -> AsyncIterator[Duplication]:
    before: Cursor | None = None
    while page := await ledger.list(None, selection, PAGE_SIZE, before):
        for duplication in page:
            yield duplication
        before = (page[-1].requested_at, page[-1].intent.id)


def _show(arguments: argparse.Namespace) -> None:
    async def read(ledger: Ledger) -> str:
        duplication = await get(ledger, arguments.id)
        history = await ledger.history(arguments.id)
        if arguments.json:
            return to_json({**as_json(duplication), "history": history_json(history)})

        def command(verb: str) -> str:
            # The operator may paste it in another folder, and the ledger's path in the file may be
            # relative to this one.
            config = str(config_of(arguments).absolute())
            run = [*program(), "duplications", verb, "--config", config]
            return f"{shlex.join(['cd', str(Path.cwd())])} && {shlex.join(run)}"

        return description(duplication, history, command, _not_searched(duplication))

    sys.stdout.write(with_ledger(arguments, read))


def _not_searched(duplication: Duplication) -> str | None:
    """Return the title of the provider if its lists cannot show this copy."""
    if duplication.campaign is not None:
        return None
    try:
        connector = find_connector(duplication.intent.provider)
    except UnusableConnector:
        return None
    # `__init__` needs the account, whose secret may not be there. What it can do is in its class.
    without_account = object.__new__(connector)
    return None if can_search(without_account, duplication.intent) else connector.title


def _resolve(arguments: argparse.Namespace) -> None:
    resolution.resolve(arguments)
    _show(arguments)


def _reopen(arguments: argparse.Namespace) -> None:
    resolution.reopen(arguments)
    _show(arguments)
