"""The command `duplications`: what is not settled, and what an operator records of it."""

import argparse
import asyncio
import getpass
import re
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from campaign_gateway.accounts import Account, open_account
from campaign_gateway.commands.arguments import add_config, config_of, program
from campaign_gateway.commands.duplication_texts import (
    as_json,
    candidate_line,
    change_line,
    comparison,
    description,
    history_json,
    listing,
    to_json,
)
from campaign_gateway.duplication.manual_resolution import (
    UNSETTLED,
    CannotResolve,
    doubts_about_copy,
    get,
    get_unsettled,
    get_withdrawable,
    read_copy,
    reopen,
    require_free,
    resolve_as_created,
    resolve_as_not_created,
    search_candidates,
)
from campaign_gateway.ledger import Ledger, open_ledger
from campaign_gateway.ledger.engine import Cursor
from campaign_gateway.model import (
    Campaign,
    Duplication,
    DuplicationStatus,
    OperatorNote,
    Selection,
    is_same_id,
)
from campaign_gateway.server.logs import RedactingFormatter, log_to_stderr
from campaign_gateway.settings import load_account_settings, load_ledger_settings
from campaign_gateway.transport.redaction import create_redactor

Result = TypeVar("Result")

PAGE_SIZE = 500

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
MAX_AGE = timedelta(days=36500)

# How long an operator's name and reason may be, in characters.
MAX_NAME_LENGTH = 200
MAX_REASON_LENGTH = 1000


# Arguments


def add_verbs(duplications: argparse.ArgumentParser) -> None:
    verbs = duplications.add_subparsers(required=True, metavar="VERB")

    listed = verbs.add_parser("list", help="list unsettled duplications, newest first")
    statuses = listed.add_mutually_exclusive_group()
    statuses.add_argument("--all", action="store_true", help="list settled duplications too")
    statuses.add_argument(
        "--status", choices=list(DuplicationStatus), help="list only duplications with this status"
    )
    listed.add_argument("--account", metavar="NAME", help="list only those of this account")
    listed.add_argument("--caller", metavar="NAME", help="list only those of this caller")
    listed.add_argument(
        "--older-than",
        metavar="AGE",
        type=_age,
        help="list only those that were requested longer ago, such as 90s, 30m, 2h or 7d",
    )
    _add_output(listed)
    listed.set_defaults(run=_list)

    shown = verbs.add_parser(
        "show", help="show one duplication, its history, and what may be its copy"
    )
    shown.add_argument("id", metavar="ID")
    _add_output(shown)
    shown.set_defaults(run=_show)

    resolved = verbs.add_parser("resolve", help="record what you saw at the provider")
    resolved.add_argument("id", metavar="ID")
    result = resolved.add_mutually_exclusive_group(required=True)
    result.add_argument(
        "--created", metavar="CAMPAIGN_ID", help="the copy exists and has this campaign id"
    )
    result.add_argument("--absent", action="store_true", help="there is no copy")
    resolved.add_argument(
        "--unchecked",
        action="store_true",
        help="do not read at the provider; then no secret but the ledger's URL is needed",
    )
    _add_note(resolved)
    _add_output(resolved)
    resolved.set_defaults(run=_resolve)

    reopened = verbs.add_parser("reopen", help="withdraw a result that an operator recorded")
    reopened.add_argument("id", metavar="ID")
    _add_note(reopened)
    _add_output(reopened)
    reopened.set_defaults(run=_reopen)


def _add_output(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="print JSON")
    add_config(verb)


def _add_note(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--yes", action="store_true", help="do not ask; needs --why")
    verb.add_argument(
        "--by",
        metavar="NAME",
        type=_name,
        help="who you are, for the history; default: the user of this machine",
    )
    verb.add_argument("--why", metavar="TEXT", type=_reason, help="why, for the history")


def _age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    age = timedelta(**{UNITS[match[2]]: int(match[1])}) if match else None
    if age is None or age > MAX_AGE:
        raise argparse.ArgumentTypeError("must be a number with a unit, such as 90s, 30m, 2h or 7d")
    return age


def _name(text: str) -> str:
    return _one_line(text, MAX_NAME_LENGTH)


def _reason(text: str) -> str:
    return _one_line(text, MAX_REASON_LENGTH)


def _one_line(text: str, limit: int) -> str:
    stripped = text.strip()
    if not stripped.isprintable() or not 1 <= len(stripped) <= limit:
        raise argparse.ArgumentTypeError(f"must be 1 to {limit} printable characters in one line")
    return stripped


# list and show


def _list(arguments: argparse.Namespace) -> None:
    async def read(ledger: Ledger) -> list[Duplication]:
        statuses = (DuplicationStatus(arguments.status),) if arguments.status else UNSETTLED
        age = arguments.older_than
        selection = Selection(
            statuses=None if arguments.all else statuses,
            account=arguments.account,
            caller=arguments.caller,
            until=None if age is None else ledger.now() - age,
        )
        return [duplication async for duplication in _all(ledger, selection)]

    duplications = _with_ledger(arguments, read)
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
            config = str(config_of(arguments))
            return shlex.join([*program(), "duplications", verb, "--config", config])

        return description(duplication, history, command)

    sys.stdout.write(_with_ledger(arguments, read))


# resolve and reopen


@dataclass(frozen=True)
class _Checked:
    """What the command has found out before it asks. `doubts` speak against the result."""

    text: str
    question: str
    doubts: Sequence[str] = ()
    copy: Campaign | None = None


def _resolve(arguments: argparse.Namespace) -> None:
    formatter = log_to_stderr()
    check = _check_absence if arguments.absent else _check_copy
    # The ledger is closed while the operator thinks. What is recorded then is checked again.
    checked, note = _decide(arguments, lambda ledger: check(arguments, ledger, formatter))

    async def record(ledger: Ledger) -> None:
        if checked.copy is None:
            await resolve_as_not_created(ledger, arguments.id, note)
        else:
            await resolve_as_created(ledger, arguments.id, checked.copy, note)

    _with_ledger(arguments, record)
    _show(arguments)


def _reopen(arguments: argparse.Namespace) -> None:
    log_to_stderr()

    async def check(ledger: Ledger) -> _Checked:
        await get_withdrawable(ledger, arguments.id)
        *_, last = await ledger.history(arguments.id)
        question = "Withdraw this result, so that it is UNKNOWN again?"
        return _Checked(f"duplication {arguments.id}\n{change_line(last)}\n", question)

    _, note = _decide(arguments, check)
    _with_ledger(arguments, lambda ledger: reopen(ledger, arguments.id, note))
    _show(arguments)


def _decide(
    arguments: argparse.Namespace, check: Callable[[Ledger], Awaitable[_Checked]]
) -> tuple[_Checked, OperatorNote]:
    """Show what was checked, and let the operator decide. Raises `CannotResolve`."""
    operator = arguments.by or _user()
    if arguments.yes and arguments.why is None:
        raise CannotResolve("--yes needs the reason for the history: add --why TEXT")
    if not arguments.yes and not sys.stdin.isatty():
        raise CannotResolve("there is no terminal to ask at: add --yes and --why TEXT")
    checked = _with_ledger(arguments, check)
    sys.stderr.write(checked.text + "".join(f"NOTE: {doubt}\n" for doubt in checked.doubts))
    if arguments.yes and checked.doubts:
        raise CannotResolve(
            f"nothing was recorded, because {'; '.join(checked.doubts)}. Decide at a terminal "
            "without --yes, or check it yourself and add --unchecked"
        )
    if not arguments.yes and _ask(f"{checked.question} [y/N] ").lower() not in {"y", "yes"}:
        raise CannotResolve("nothing was recorded")
    return checked, OperatorNote(operator, arguments.why or _ask_reason())


def _user() -> str:
    """Return the name of the operating system's user. Raises `CannotResolve`."""
    try:
        return _name(getpass.getuser())
    except (argparse.ArgumentTypeError, KeyError, OSError) as error:
        raise CannotResolve("this user of the machine has no name: add --by NAME") from error


def _ask_reason() -> str:
    """Raises `CannotResolve`."""
    try:
        return _reason(_ask("Why, for the history? "))
    except argparse.ArgumentTypeError as error:
        raise CannotResolve(f"nothing was recorded: the reason {error}") from error


def _ask(question: str) -> str:
    # On stderr, because stdout may have JSON only.
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


async def _check_copy(
    arguments: argparse.Namespace, ledger: Ledger, formatter: RedactingFormatter
) -> _Checked:
    """Raises `CannotResolve`."""
    duplication = await get_unsettled(ledger, arguments.id)
    campaign_id = arguments.created
    await require_free(ledger, duplication, campaign_id)
    question = f"Record campaign {campaign_id} as the copy?"
    if arguments.unchecked:
        text = f"Campaign {campaign_id} was not read at the provider, because of --unchecked.\n"
        return _Checked(text, question, copy=_known(duplication, campaign_id))
    async with _open_account(arguments, duplication, formatter) as account:
        campaign = await read_copy(account, duplication, campaign_id)
        doubts = list(doubts_about_copy(account, duplication, campaign))
    # The provider may spell the id differently.
    await require_free(ledger, duplication, campaign.id)
    return _Checked(comparison(duplication, campaign), question, doubts, campaign)


def _known(duplication: Duplication, campaign_id: str) -> Campaign:
    """Return the campaign as the gateway has read it before, if it has."""
    candidates = [duplication.campaign] if duplication.campaign else duplication.candidates
    known = [each for each in candidates if is_same_id(each.id, campaign_id)]
    return known[0] if known else Campaign(campaign_id, duplication.intent.requested_name)


async def _check_absence(
    arguments: argparse.Namespace, ledger: Ledger, formatter: RedactingFormatter
) -> _Checked:
    """Raises `CannotResolve`."""
    duplication = await get_unsettled(ledger, arguments.id)
    intent, question = duplication.intent, "Record that there is no copy?"
    if arguments.unchecked:
        return _Checked("The provider was not searched, because of --unchecked.\n", question)
    async with _open_account(arguments, duplication, formatter) as account:
        title = account.connector.title
        candidates = await search_candidates(account, ledger, duplication)
    if candidates is None:
        return _Checked("", question, [f"{title} has no list in which the copy could be found"])
    if candidates:
        lines = "".join(f"  {candidate_line(candidate)}\n" for candidate in candidates)
        ids = ", ".join(candidate.id for candidate in candidates)
        text = f"These campaigns at {title} may be the copy:\n{lines}"
        return _Checked(text, question, [f"the copy may be {ids}"])
    text = f"{title} lists no campaign that may be the copy of {intent.source_campaign_id}.\n"
    return _Checked(text, question)


@asynccontextmanager
async def _open_account(
    arguments: argparse.Namespace, duplication: Duplication, formatter: RedactingFormatter
) -> AsyncIterator[Account]:
    """Open the account to read at its provider. Raises `CannotResolve` and `SettingsError`."""
    intent = duplication.intent
    settings = load_account_settings(config_of(arguments), intent.account)
    if settings is None or settings.provider != intent.provider:
        raise CannotResolve(
            f"the configuration has no {intent.provider} account {intent.account}. Add it, or "
            "check at the provider yourself and add --unchecked"
        )
    formatter.redact = create_redactor(settings.secrets())
    account = open_account(intent.account, settings)
    try:
        yield account
    finally:
        await account.transport.close()


def _with_ledger(
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
