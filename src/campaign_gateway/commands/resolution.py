"""The commands `resolve` and `reopen`: they check, ask the operator, and record."""

import argparse
import getpass
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from campaign_gateway.accounts.account import Account, open_account
from campaign_gateway.accounts.transport.redaction import create_redactor
from campaign_gateway.commands.arguments import config_of, with_ledger
from campaign_gateway.commands.duplication_texts import candidate_line, change_line, comparison
from campaign_gateway.duplication.manual_resolution import (
    CannotResolve,
    doubts_about_copy,
    get_unsettled,
    get_withdrawable,
    read_copy,
    require_free,
    resolve_as_created,
    resolve_as_not_created,
    search_candidates,
    withdraw,
)
from campaign_gateway.ledger import Ledger
from campaign_gateway.model import Campaign, Duplication, OperatorNote, is_same_id
from campaign_gateway.observe.log import JsonFormatter, log_to_stderr
from campaign_gateway.settings import load_account_settings, load_ledger_settings

# How long an operator's name and reason may be, in characters.
MAX_NAME_LENGTH = 200
MAX_REASON_LENGTH = 1000


def name(text: str) -> str:
    return _one_line(text, MAX_NAME_LENGTH)


def reason(text: str) -> str:
    return _one_line(text, MAX_REASON_LENGTH)


def _one_line(text: str, limit: int) -> str:
    stripped = text.strip()
    if not stripped.isprintable() or not 1 <= len(stripped) <= limit:
        raise argparse.ArgumentTypeError(f"must be 1 to {limit} printable characters in one line")
    return stripped


@dataclass(frozen=True)
class _Checked:
    """What the command has found out before it asks. `doubts` speak against the result."""

    duplication: Duplication
    text: str
    question: str
    doubts: Sequence[str] = ()
    copy: Campaign | None = None


def resolve(arguments: argparse.Namespace) -> None:
    formatter = log_to_stderr("text")
    check = _check_absence if arguments.absent else _check_copy
    # The ledger is closed while the operator thinks. What is recorded then is checked again.
    checked, note = _decide(arguments, lambda ledger: check(arguments, ledger, formatter))

    async def record(ledger: Ledger) -> None:
        if checked.copy is None:
            await resolve_as_not_created(ledger, arguments.id, note)
        else:
            await resolve_as_created(ledger, arguments.id, checked.copy, note)

    with_ledger(arguments, record)


def reopen(arguments: argparse.Namespace) -> None:
    log_to_stderr("text")

    async def check(ledger: Ledger) -> _Checked:
        duplication = await get_withdrawable(ledger, arguments.id)
        *_, last = await ledger.history(arguments.id)
        question = "Withdraw this result, so that it is UNKNOWN again?"
        text = f"duplication {arguments.id}\n{change_line(last)}\n"
        return _Checked(duplication, text, question)

    checked, note = _decide(arguments, check)
    with_ledger(arguments, lambda ledger: withdraw(ledger, checked.duplication, note))


def _decide(
    arguments: argparse.Namespace, check: Callable[[Ledger], Awaitable[_Checked]]
) -> tuple[_Checked, OperatorNote]:
    """Show what was checked, and let the operator decide.

    Raises `CannotResolve` and `SettingsError`.
    """
    # A wrong file is reported first: without it, no other argument helps.
    load_ledger_settings(config_of(arguments))
    operator = arguments.by or _user()
    if arguments.yes and arguments.why is None:
        raise CannotResolve("--yes needs the reason for the history: add --why TEXT")
    if not arguments.yes and not sys.stdin.isatty():
        raise CannotResolve("without a terminal, the command cannot ask: add --yes and --why TEXT")
    checked = with_ledger(arguments, check)
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
        return name(getpass.getuser())
    except (argparse.ArgumentTypeError, KeyError, OSError) as error:
        raise CannotResolve("the user of this machine has no name: add --by NAME") from error


def _ask_reason() -> str:
    """Raises `CannotResolve`."""
    try:
        return reason(_ask("Reason, for the history: "))
    except argparse.ArgumentTypeError as error:
        raise CannotResolve(f"nothing was recorded: the reason {error}") from error


def _ask(question: str) -> str:
    # On stderr, because stdout may have JSON only.
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


async def _check_copy(
    arguments: argparse.Namespace, ledger: Ledger, formatter: JsonFormatter
) -> _Checked:
    """Raises `CannotResolve`."""
    duplication = await get_unsettled(ledger, arguments.id)
    campaign_id = arguments.created
    await require_free(ledger, duplication, campaign_id)
    question = f"Record campaign {campaign_id} as the copy?"
    if arguments.unchecked:
        text = f"Campaign {campaign_id} was not read at the provider, because of --unchecked.\n"
        return _Checked(duplication, text, question, copy=_known(duplication, campaign_id))
    async with _open_account(arguments, duplication, formatter) as account:
        campaign = await read_copy(account, duplication, campaign_id)
        doubts = list(doubts_about_copy(account, ledger, duplication, campaign))
    # The provider may spell the id differently.
    await require_free(ledger, duplication, campaign.id)
    return _Checked(duplication, comparison(duplication, campaign), question, doubts, campaign)


def _known(duplication: Duplication, campaign_id: str) -> Campaign:
    """Return the campaign as the gateway has read it before, if it has."""
    candidates = [duplication.campaign] if duplication.campaign else duplication.candidates
    known = [each for each in candidates if is_same_id(each.id, campaign_id)]
    return known[0] if known else Campaign(campaign_id, duplication.intent.requested_name)


async def _check_absence(
    arguments: argparse.Namespace, ledger: Ledger, formatter: JsonFormatter
) -> _Checked:
    """Raises `CannotResolve`."""
    duplication = await get_unsettled(ledger, arguments.id)
    intent, question = duplication.intent, "Record that there is no copy?"
    if arguments.unchecked:
        return _Checked(
            duplication, "The provider was not searched, because of --unchecked.\n", question
        )
    async with _open_account(arguments, duplication, formatter) as account:
        title = account.connector.title
        candidates = await search_candidates(account, ledger, duplication)
    if candidates is None:
        return _Checked(
            duplication, "", question, [f"{title} has no list in which the copy could be found"]
        )
    if candidates:
        lines = "".join(f"  {candidate_line(candidate)}\n" for candidate in candidates)
        ids = ", ".join(candidate.id for candidate in candidates)
        text = f"These campaigns at {title} may be the copy:\n{lines}"
        return _Checked(duplication, text, question, [f"the copy may be {ids}"])
    text = f"{title} lists no campaign that may be the copy of {intent.source_campaign_id}.\n"
    return _Checked(duplication, text, question)


@asynccontextmanager
async def _open_account(
    arguments: argparse.Namespace, duplication: Duplication, formatter: JsonFormatter
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
