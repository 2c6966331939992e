"""What the queries read, from the ledger and from the providers."""

import asyncio
import base64
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from graphql import GraphQLError

from campaign_gateway import model
from campaign_gateway.accounts import Account
from campaign_gateway.api.context import CAMPAIGN_LIMIT, Context
from campaign_gateway.connectors.contract import CopyInput, UnexpectedResponse
from campaign_gateway.duplication.campaign_reads import look_up_all
from campaign_gateway.duplication.intents import UnreadableInput, recorded_call
from campaign_gateway.graphql_http.endpoint import Outage
from campaign_gateway.ledger.engine import Cursor, LedgerUnavailable
from campaign_gateway.ledger.rows import from_micros, to_micros
from campaign_gateway.model import Duplication, Refused, Selection
from campaign_gateway.transport.errors import NoResponse

PAGE_SIZE = 20
PAGE_LIMIT = 100

# How long one request waits for a duplication to be settled, and how often it looks, in seconds.
WAIT_LIMIT = 20
FIRST_LOOK, LAST_LOOK = 0.25, 2.0

# How much longer than its caller asked a wait may take in an outage of the ledger, in seconds.
WAIT_SLACK = 2.0

# Of the UUIDs that duplications are known by.
ID_VERSION = 7

LEDGER_UNAVAILABLE = "LEDGER_UNAVAILABLE"


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except LedgerUnavailable as failure:
        raise _outage(failure) from failure


def _outage(failure: Exception) -> Outage:
    return Outage(
        "The gateway cannot read its ledger now. Nothing was changed. Try again in a few seconds.",
        LEDGER_UNAVAILABLE,
        f"the ledger cannot be read: {failure}",
    )


@dataclass(frozen=True, slots=True)
class Page:
    duplications: Sequence[Duplication]
    has_next: bool
    has_previous: bool


async def duplication(context: Context, duplication_id: str) -> Duplication | None:
    found = canonical_id(duplication_id)
    with _reading():
        return await context.ledger.get(context.scope, found) if found else None


async def settled(context: Context, duplication_id: str, wait_seconds: int) -> Duplication | None:
    """As `duplication`, once it is settled, or as it is then. Raises `GraphQLError`.

    An outage of the ledger that ends before the wait does is not reported.
    """
    if not 0 <= wait_seconds <= WAIT_LIMIT:
        raise GraphQLError(f"'waitSeconds' must be between 0 and {WAIT_LIMIT}.")
    if wait_seconds == 0:
        return await duplication(context, duplication_id)
    loop = asyncio.get_running_loop()
    give_up_at, pause = loop.time() + wait_seconds, FIRST_LOOK
    while True:
        found, failure = await _look(context, duplication_id, give_up_at + WAIT_SLACK)
        is_over = failure is None and (found is None or found.settled_at is not None)
        left = give_up_at - loop.time()
        # Whoever stops a gateway does not wait for its waiting callers.
        if is_over or left <= 0 or context.duplicator.is_draining:
            if failure is not None:
                raise failure
            return found
        await asyncio.sleep(min(pause, left))
        pause = min(2 * pause, LAST_LOOK)


async def _look(
    context: Context, duplication_id: str, until: float
) -> tuple[Duplication | None, Outage | None]:
    """Return the duplication, or why it cannot be read; `until` is by the loop's clock."""
    looking = asyncio.create_task(duplication(context, duplication_id))
    # Not cancelled: the library for the database takes several seconds to give a statement up.
    await asyncio.wait([looking], timeout=until - asyncio.get_running_loop().time())
    if not looking.done():
        looking.add_done_callback(_ignore)
        return None, _outage(TimeoutError("it did not answer in time"))
    try:
        return looking.result(), None
    except Outage as failure:
        return None, failure


def _ignore(late: "asyncio.Task[Duplication | None]") -> None:
    """What comes too late, so that asyncio does not report it as lost."""
    if not late.cancelled():
        late.exception()


async def duplications_by_id(
    context: Context, duplication_ids: Iterable[str]
) -> Mapping[str, Duplication]:
    """Those that there are, by the ids they were asked for by."""
    canonical = {each: found for each in duplication_ids if (found := canonical_id(each))}
    with _reading():
        recorded = await context.ledger.get_all(context.scope, set(canonical.values()))
    known = {each.intent.id: each for each in recorded}
    return {each: known[found] for each, found in canonical.items() if found in known}


async def duplication_by_key(context: Context, key: str) -> Duplication | None:
    with _reading():
        found = await context.ledger.find(context.scope, key) if _is_storable(key) else None
    return None if found is None or found.expired else found


async def duplications(
    context: Context, first: int, after: str | None, selection: Selection
) -> Page:
    """A page, newest first. Raises `GraphQLError` for a cursor or a size that cannot be used."""
    if not 1 <= first <= PAGE_LIMIT:
        raise GraphQLError(f"'first' must be between 1 and {PAGE_LIMIT}.")
    before = None if after is None else _place_of(after)
    with _reading():
        found = await context.ledger.list(context.scope, selection, first + 1, before)
    return Page(found[:first], has_next=len(found) > first, has_previous=before is not None)


async def campaigns(
    context: Context, keys: Iterable[tuple[str, str]]
) -> Mapping[tuple[str, str], model.Campaign | GraphQLError | None]:
    """Campaigns by account and id, as their providers describe them now; None for what is not.

    Raises `GraphQLError` when the request has asked for too many.
    """
    wanted: dict[str, set[str]] = {}
    for account_name, campaign_id in keys:
        wanted.setdefault(account_name, set()).add(campaign_id)
    context.campaigns_left -= sum(len(each) for each in wanted.values())
    if context.campaigns_left < 0:
        raise GraphQLError(f"One request reads up to {CAMPAIGN_LIMIT} campaigns at providers.")
    read = await asyncio.gather(*(_campaigns_at(context, *each) for each in wanted.items()))
    return {key: found for part in read for key, found in part.items()}


async def _campaigns_at(
    context: Context, account_name: str, campaign_ids: Collection[str]
) -> Mapping[tuple[str, str], model.Campaign | GraphQLError | None]:
    account = context.accounts.get(account_name)
    if account is None:
        unknown = GraphQLError("There is no account of this name; see Query.accounts.")
        return dict.fromkeys(((account_name, each) for each in campaign_ids), unknown)
    storable = [each for each in campaign_ids if _is_storable(each)]
    try:
        with _reading():
            related = await context.ledger.find_related(context.scope, account.name, storable)
    except Outage as failure:
        # Without what it was copied with, a campaign may not be found at all.
        return dict.fromkeys(((account_name, each) for each in campaign_ids), failure)
    inputs = _related_inputs(account, related)
    read = await look_up_all(account, {each: inputs.get(each) for each in campaign_ids})
    return {(account_name, each): _told(account, found) for each, found in read.items()}


def _related_inputs(
    account: Account, related: Mapping[str, Duplication]
) -> Mapping[str, CopyInput]:
    """Return the recorded inputs that this version and this account can use."""
    inputs = {}
    for campaign_id, duplication in related.items():
        # The account's name may have been another provider's before, and during an update another
        # version of the gateway may have written the record.
        if duplication.intent.provider == account.connector.provider:
            with suppress(UnreadableInput):
                inputs[campaign_id] = recorded_call(account, duplication).copy_input
    return inputs


def _told(
    account: Account, found: model.Campaign | Refused | NoResponse | UnexpectedResponse | None
) -> model.Campaign | GraphQLError | None:
    match found:
        case Refused():
            return GraphQLError(found.error.message)
        case NoResponse() | UnexpectedResponse():
            return GraphQLError(f"{account.connector.title} could not be read: {found}.")
        case _:
            return found


def cursor_of(duplication: Duplication) -> str:
    requested_at = to_micros(duplication.requested_at).to_bytes(8)
    place = requested_at + uuid.UUID(duplication.intent.id).bytes
    return base64.urlsafe_b64encode(place).decode()


def _place_of(cursor: str) -> Cursor:
    try:
        decoded = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        requested_at = from_micros(int.from_bytes(decoded[:8]))
        found = uuid.UUID(bytes=decoded[8:])
    except (ValueError, OverflowError):
        found = None
    if found is None or found.version != ID_VERSION:
        raise GraphQLError("'after' must be a cursor of an earlier page.")
    return requested_at, str(found)


def canonical_id(value: str) -> str | None:
    """A duplication's id as it is recorded; None for what can be none."""
    try:
        return str(uuid.UUID(value))
    except ValueError:
        return None


def _is_storable(value: str) -> bool:
    """No other was ever recorded: SQLite chokes on lone surrogates, PostgreSQL on NUL."""
    return value.isascii() and "\0" not in value
