"""A look at a copy before it is made: what would be sent, and what its source is now."""

from collections.abc import Mapping
from dataclasses import dataclass

from campaign_gateway.accounts.account import Account, choose_account
from campaign_gateway.accounts.transport.errors import NoResponse
from campaign_gateway.connectors.contract import (
    CopyInput,
    ProviderRequest,
    ReadsCampaigns,
    UnexpectedResponse,
)
from campaign_gateway.duplication.campaign_reads import look_up_all
from campaign_gateway.duplication.intents import new_call
from campaign_gateway.duplication.requests import (
    build_request,
    may_start_active,
    require_right_to_activate,
    require_right_to_copy,
)
from campaign_gateway.model import Campaign, ErrorCode, Refused, UserError
from campaign_gateway.web.callers.caller import Caller, Right


@dataclass(frozen=True, slots=True)
class Preview:
    """`source` is None if it was not read. `error` says why the copy would fail, if that is known.

    `name` is None if the provider chooses it. `may_start_active`: the copy may be active as soon as
    it exists.
    """

    account: Account
    request: ProviderRequest
    name: str | None
    may_start_active: bool
    source: Campaign | None = None
    error: UserError | None = None


async def preview(
    caller: Caller,
    accounts: Mapping[str, Account],
    provider: str,
    copy_input: CopyInput,
    ends_at: float,
) -> Preview:
    """Check the input as a copy does, and read the source by `ends_at`, a time of the loop's clock.

    The ledger is not used. `accounts` are those that the caller may use. Raises `Refused`.
    """
    require_right_to_copy(caller)
    account = choose_account(accounts, provider, copy_input.account)
    require_right_to_activate(caller, account, copy_input)
    request = build_request(new_call(caller, "", account, copy_input))
    source, error = None, None
    if Right.READ in caller.rights and isinstance(account.connector, ReadsCampaigns):
        source, error = await _read_source(account, copy_input, ends_at)
    return Preview(
        account=account,
        request=request,
        name=copy_input.name,
        may_start_active=may_start_active(account, copy_input),
        source=source,
        error=error,
    )


async def _read_source(
    account: Account, copy_input: CopyInput, ends_at: float
) -> tuple[Campaign | None, UserError | None]:
    source_id, title = str(copy_input.campaign_id), account.connector.title
    results = await look_up_all(account, {source_id: copy_input}, ends_at)
    match results[source_id]:
        case Campaign() as source:
            return source, None
        case None:
            message = f"{title} has no campaign with this id in the account."
            path = ("input", account.connector.provider, "campaignId")
            return None, UserError(ErrorCode.CAMPAIGN_NOT_FOUND, message, field=path)
        case Refused(error=error):
            return None, error
        case NoResponse() | UnexpectedResponse() as failure:
            message = f"The campaign could not be read at {title}: {failure}. Try again later."
            return None, UserError(ErrorCode.PROVIDER_UNAVAILABLE, message)
