"""Reads for the queries, from the ledger and from the providers."""

import asyncio
import base64
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from graphql import GraphQLError

from campaign_gateway import model
from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.transport.errors import NoResponse
from campaign_gateway.api.context import CAMPAIGN_LIMIT, Context
from campaign_gateway.connectors.contract import CopyInput, UnexpectedResponse
from campaign_gateway.duplication import dry_run
from campaign_gateway.duplication.campaign_reads import look_up_all, read_asset_types
from campaign_gateway.duplication.dry_run import Preview
from campaign_gateway.duplication.intents import UnreadableInput, recorded_call
from campaign_gateway.ledger.engine import Cursor, LedgerUnavailable
from campaign_gateway.ledger.rows import from_micros, to_micros
from campaign_gateway.model import Duplication, ErrorCode, Refused, Selection
from campaign_gateway.web.graphql_http.endpoint import Outage

PAGE_SIZE = 20
PAGE_LIMIT = 100

# In seconds: how long one request may wait until a duplication is settled, and the pauses between
# two reads of the ledger, which double from the first to the last.
WAIT_LIMIT = 20
FIRST_PAUSE, LAST_PAUSE = 0.25, 2.0

# By how many seconds a wait may exceed `waitSeconds` while the ledger is unavailable.
WAIT_SLACK = 2.0

# The UUID version of duplication ids.
ID_VERSION = 7

LEDGER_UNAVAILABLE = "LEDGER_UNAVAILABLE"

UNKNOWN_ACCOUNT = "There is no account with this name: see Query.accounts."
TOO_MANY_READS = f"One request can read up to {CAMPAIGN_LIMIT} campaigns. Send several requests."


@contextmanager
def _ledger_outage() -> Iterator[None]:
    """Raise `Outage` if the ledger is unavailable."""
    try:
        yield
    except LedgerUnavailable as failure:
        raise _outage(failure) from failure


def _outage(failure: Exception) -> Outage:
    return Outage(
        "The gateway cannot read its records now. Nothing was changed. Try again in a few seconds.",
        LEDGER_UNAVAILABLE,
        f"the ledger cannot be read: {failure}",
    )


@dataclass(frozen=True, slots=True)
class Page:
    """`end` is the cursor to continue from; None if the page is empty and there are no more."""

    duplications: Sequence[Duplication]
    end: str | None
    has_next: bool
    has_previous: bool


async def duplication(context: Context, duplication_id: str) -> Duplication | None:
    canonical = canonical_id(duplication_id)
    with _ledger_outage():
        return await context.ledger.get(context.scope, canonical) if canonical else None


async def settled(context: Context, duplication_id: str, wait_seconds: int) -> Duplication | None:
    """Wait up to `wait_seconds` until the duplication is settled, and return it as it is then.

    An outage of the ledger that ends before the wait does is not reported. Raises `GraphQLError`.
    """
    if not 0 <= wait_seconds <= WAIT_LIMIT:
        raise GraphQLError(f"'waitSeconds' must be between 0 and {WAIT_LIMIT}.")
    if wait_seconds == 0:
        return await duplication(context, duplication_id)
    loop = asyncio.get_running_loop()
    ends_at, pause = loop.time() + wait_seconds, FIRST_PAUSE
    while True:
        recorded, failure = await _try_read(context, duplication_id, ends_at + WAIT_SLACK)
        is_over = failure is None and (recorded is None or recorded.settled_at is not None)
        left = ends_at - loop.time()
        # Waiting callers must not delay the stop of the gateway.
        if is_over or left <= 0 or context.duplicator.is_draining:
            if failure is not None:
                raise failure
            return recorded
        await asyncio.sleep(min(pause, left))
        pause = min(2 * pause, LAST_PAUSE)


async def _try_read(
    context: Context, duplication_id: str, until: float
) -> tuple[Duplication | None, Outage | None]:
    """Return the duplication, or why it cannot be read. `until` is a time of the loop's clock."""
    read = asyncio.create_task(duplication(context, duplication_id))
    # It may be late, and the request may be cancelled meanwhile.
    read.add_done_callback(_ignore_result)
    # The read is not cancelled, because the database driver needs seconds to cancel a statement.
    await asyncio.wait([read], timeout=until - asyncio.get_running_loop().time())
    if not read.done():
        return None, _outage(TimeoutError("it did not respond in time"))
    try:
        return read.result(), None
    except Outage as failure:
        return None, failure


def _ignore_result(task: "asyncio.Task[Duplication | None]") -> None:
    """Retrieve the exception of a task, so that asyncio does not log it as never retrieved."""
    if not task.cancelled():
        task.exception()


async def duplications_by_id(
    context: Context, duplication_ids: Iterable[str]
) -> Mapping[str, Duplication]:
    """Return the duplications that exist, by their ids as the caller wrote them."""
    canonical = {
        requested: duplication_id
        for requested in duplication_ids
        if (duplication_id := canonical_id(requested))
    }
    with _ledger_outage():
        recorded = await context.ledger.get_all(context.scope, set(canonical.values()))
    known = {duplication.intent.id: duplication for duplication in recorded}
    return {
        requested: known[duplication_id]
        for requested, duplication_id in canonical.items()
        if duplication_id in known
    }


async def duplication_by_key(context: Context, key: str) -> Duplication | None:
    with _ledger_outage():
        recorded = await context.ledger.find(context.scope, key) if _is_storable(key) else None
    return None if recorded is None or recorded.expired else recorded


async def duplications(
    context: Context, first: int, after: str | None, selection: Selection
) -> Page:
    """Return a page, newest first. Raises `GraphQLError` for an invalid cursor or page size."""
    if not 1 <= first <= PAGE_LIMIT:
        raise GraphQLError(f"'first' must be between 1 and {PAGE_LIMIT}.")
    before = None if after is None else _parse_cursor(after)
    with _ledger_outage():
        recorded, following = await context.ledger.page(context.scope, selection, first, before)
    end = _format_cursor(following) if following else None
    if recorded and end is None:
        end = cursor_of(recorded[-1])
    return Page(recorded, end, has_next=following is not None, has_previous=before is not None)


async def campaigns(
    context: Context, keys: Iterable[tuple[str, str]]
) -> Mapping[tuple[str, str], model.Campaign | GraphQLError | None]:
    """Read campaigns from their providers, and return them by account and id.

    A value is None if there is no such campaign, and an error if it cannot be read. Raises
    `GraphQLError` if the request reads too many campaigns.
    """
    ids_by_account: dict[str, set[str]] = {}
    for account_name, campaign_id in keys:
        ids_by_account.setdefault(account_name, set()).add(campaign_id)
    context.campaigns_left -= sum(len(campaign_ids) for campaign_ids in ids_by_account.values())
    if context.campaigns_left < 0:
        raise GraphQLError(TOO_MANY_READS)
    reads = [
        _campaigns_of(context, account_name, campaign_ids)
        for account_name, campaign_ids in ids_by_account.items()
    ]
    return {key: result for part in await asyncio.gather(*reads) for key, result in part.items()}


async def cloneable_asset_types(context: Context, account_name: str) -> Sequence[str]:
    """Read the types from the account's provider. Raises `GraphQLError`."""
    account = context.accounts.get(account_name)
    if account is None:
        raise GraphQLError(UNKNOWN_ACCOUNT)
    context.campaigns_left -= 1
    if context.campaigns_left < 0:
        raise GraphQLError(TOO_MANY_READS)
    try:
        return await read_asset_types(account, context.reads_end_at)
    except (Refused, NoResponse, UnexpectedResponse) as failure:
        raise _as_graphql_error(account, failure) from failure


async def preview(context: Context, provider: str, copy_input: CopyInput) -> Preview | Refused:
    """Return what a copy would be, or why there would be none."""
    try:
        return await dry_run.preview(
            context.caller, context.accounts, provider, copy_input, context.reads_end_at
        )
    except Refused as refusal:
        return refusal


async def _campaigns_of(
    context: Context, account_name: str, campaign_ids: Collection[str]
) -> Mapping[tuple[str, str], model.Campaign | GraphQLError | None]:
    account = context.accounts.get(account_name)
    if account is None:
        unknown = GraphQLError(UNKNOWN_ACCOUNT)
        return {(account_name, campaign_id): unknown for campaign_id in campaign_ids}
    storable = [campaign_id for campaign_id in campaign_ids if _is_storable(campaign_id)]
    try:
        with _ledger_outage():
            related = await context.ledger.find_related(context.scope, account.name, storable)
    except Outage as failure:
        # Without what it was copied with, a campaign may not be found at all.
        return {(account_name, campaign_id): failure for campaign_id in campaign_ids}
    inputs = _related_inputs(account, related)
    related_inputs = {key: inputs.get(key) for key in campaign_ids}
    results = await look_up_all(account, related_inputs, context.reads_end_at)
    return {
        (account_name, campaign_id): _with_graphql_error(account, result)
        for campaign_id, result in results.items()
    }


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


def _with_graphql_error(
    account: Account, result: model.Campaign | Refused | NoResponse | UnexpectedResponse | None
) -> model.Campaign | GraphQLError | None:
    if isinstance(result, Refused | NoResponse | UnexpectedResponse):
        return _as_graphql_error(account, result)
    return result


def _as_graphql_error(
    account: Account, failure: Refused | NoResponse | UnexpectedResponse
) -> GraphQLError:
    if isinstance(failure, Refused):
        error = failure.error
        delay = {} if error.retry_after is None else {"retryAfterSeconds": error.retry_after}
        return GraphQLError(error.message, extensions={"code": error.code, **delay})
    message = f"{account.connector.title} could not be read: {failure}."
    return GraphQLError(message, extensions={"code": ErrorCode.PROVIDER_UNAVAILABLE})


def cursor_of(duplication: Duplication) -> str:
    return _format_cursor((duplication.requested_at, duplication.intent.id))


def _format_cursor(cursor: Cursor) -> str:
    requested_at, duplication_id = cursor
    place = to_micros(requested_at).to_bytes(8) + uuid.UUID(duplication_id).bytes
    return base64.urlsafe_b64encode(place).decode()


def _parse_cursor(cursor: str) -> Cursor:
    try:
        decoded = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        requested_at = from_micros(int.from_bytes(decoded[:8]))
        duplication_id = uuid.UUID(bytes=decoded[8:])
    except (ValueError, OverflowError):
        duplication_id = None
    if duplication_id is None or duplication_id.version != ID_VERSION:
        raise GraphQLError("'after' must be a cursor of an earlier page.")
    return requested_at, str(duplication_id)


def canonical_id(value: str) -> str | None:
    """Return the id as the ledger stores it, or None if it is no UUID."""
    try:
        return str(uuid.UUID(value))
    except ValueError:
        return None


def _is_storable(value: str) -> bool:
    """Whether both databases accept the value: SQLite fails on lone surrogates, PostgreSQL on NUL.

    The ledger contains only such keys and ids, so any other value is not there.
    """
    return value.isascii() and "\0" not in value
