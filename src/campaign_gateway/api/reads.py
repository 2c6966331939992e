"""What the queries read, from the ledger and from the providers."""

import base64
import binascii
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from graphql import GraphQLError

from campaign_gateway import outcomes
from campaign_gateway.api.context import Context
from campaign_gateway.connector import UnreadableAnswer
from campaign_gateway.ledger.contract import Duplication, Selection
from campaign_gateway.outcomes import Refused
from campaign_gateway.reading import input_of, look_up
from campaign_gateway.transport import NoAnswer

PAGE_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Page:
    duplications: Sequence[Duplication]
    has_next: bool
    has_previous: bool


async def duplication(context: Context, duplication_id: str) -> Duplication | None:
    found = canonical_id(duplication_id)
    return await context.ledger.get(context.scope, found) if found else None


async def duplication_by_key(context: Context, key: str) -> Duplication | None:
    found = await context.ledger.find(context.scope, key) if _is_storable(key) else None
    return None if found is None or found.expired else found


async def duplications(
    context: Context, first: int, after: str | None, selection: Selection
) -> Page:
    """A page, newest first. Raises `GraphQLError` for a cursor or a size that cannot be used."""
    if not 1 <= first <= PAGE_LIMIT:
        raise GraphQLError(f"'first' must be between 1 and {PAGE_LIMIT}.")
    before_id = None if after is None else _id_of(after)
    found = await context.ledger.list(context.scope, selection, first + 1, before_id)
    return Page(found[:first], has_next=len(found) > first, has_previous=before_id is not None)


async def campaign(
    context: Context, account_name: str, campaign_id: str
) -> tuple[outcomes.Campaign | None, str]:
    """A campaign as its provider describes it now, with that provider. Raises `GraphQLError`."""
    account = context.accounts.get(account_name)
    if account is None:
        raise GraphQLError("There is no account of this name; see Query.accounts.")
    near = (
        await context.ledger.near(context.scope, account.name, campaign_id)
        if _is_storable(campaign_id)
        else None
    )
    try:
        found = await look_up(account, campaign_id, near and input_of(account, near))
    except Refused as refusal:
        raise GraphQLError(refusal.error.message) from None
    except (NoAnswer, UnreadableAnswer) as failure:
        title = account.connector.title
        raise GraphQLError(f"{title} could not be read: {failure}.") from None
    return found, account.connector.provider


def cursor_of(duplication: Duplication) -> str:
    return base64.urlsafe_b64encode(uuid.UUID(duplication.intent.id).bytes).decode().rstrip("=")


def _id_of(cursor: str) -> str:
    try:
        return str(uuid.UUID(bytes=base64.urlsafe_b64decode(cursor.encode("ascii") + b"==")))
    except (ValueError, binascii.Error):
        raise GraphQLError("'after' must be a cursor of an earlier page.") from None


def canonical_id(value: str) -> str | None:
    """A duplication's id as it is recorded; None for what can be none."""
    try:
        return str(uuid.UUID(value))
    except ValueError:
        return None


def _is_storable(value: str) -> bool:
    """No other was ever recorded: SQLite chokes on lone surrogates, PostgreSQL on NUL."""
    return value.isascii() and "\0" not in value
