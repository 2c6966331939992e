"""The check of one account: a few harmless reads at its provider, and what they show."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.checks.problems import (
    Problem,
    ProblemCode,
    needed,
    permissions_missing,
    problem,
    read_refused,
)
from campaign_gateway.accounts.transport.errors import NoResponse
from campaign_gateway.accounts.transport.observation import Observation
from campaign_gateway.accounts.transport.permits import NoPermit
from campaign_gateway.accounts.transport.rate_limit import CallKind, Permit
from campaign_gateway.accounts.transport.worker import run_parser
from campaign_gateway.connectors.contract import (
    CHECK_READS,
    Access,
    Permission,
    ProviderRequest,
    ProviderResponse,
    ShowsAccess,
    UnexpectedResponse,
)
from campaign_gateway.model import ErrorCode, Refused
from campaign_gateway.observe.events import ProviderCall

# The wait for a permit of the account, and all reads after it, in seconds.
PERMIT_SECONDS = 5.0
READ_SECONDS = 10.0

# A larger difference between the clocks is reported, in seconds.
CLOCK_TOLERANCE = 60


class Secret(StrEnum):
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class AccountCheck:
    """What a check found. None stands for what it could not find out.

    `clock_skew` is by how many seconds the provider's clock is ahead. `seconds` is the latency of
    the last read.
    """

    account: str
    provider: str
    checked_at: datetime
    api_version: str | None
    has_tls: bool | None
    is_reachable: bool | None = None
    certificate_ends_at: datetime | None = None
    secret: Secret = Secret.UNKNOWN
    permissions: tuple[Permission, ...] = ()
    clock_skew: int | None = None
    seconds: float | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def is_ok(self) -> bool:
        return not self.problems


Failure = Refused | NoResponse | UnexpectedResponse


async def check_accounts(accounts: Iterable[Account]) -> Sequence[AccountCheck]:
    """Check the accounts concurrently, so that a provider that hangs delays no other."""
    return await asyncio.gather(*map(check_account, accounts))


async def check_account(account: Account) -> AccountCheck:
    """Check one account. Nothing is read if its connector is not a `ShowsAccess`."""
    connector = account.connector
    if not isinstance(connector, ShowsAccess):
        now = datetime.now(UTC)
        return AccountCheck(account.name, connector.title, now, api_version=None, has_tls=None)
    first = connector.build_check(())
    assert first is not None
    responses: list[ProviderResponse] = []
    observation = Observation()
    failure: Failure | None = None
    try:
        async with (
            account.rate_limiter.acquire(CallKind.READ, PERMIT_SECONDS) as permit,
            asyncio.timeout(READ_SECONDS),
        ):
            await _read_all(account, first, permit, responses, observation)
    except TimeoutError:
        failure = NoResponse("timeout")
    except (Refused, NoResponse, UnexpectedResponse) as error:
        failure = error
    access = Access((), None, is_accepted=False)
    if responses:
        access = await run_parser(responses[-1], connector.parse_check, tuple(responses))
    skew = _clock_skew(responses, observation.received_at)
    return AccountCheck(
        account=account.name,
        provider=account.connector.title,
        checked_at=datetime.now(UTC),
        api_version=connector.api_version,
        has_tls=first.url.startswith("https://"),
        is_reachable=_is_reachable(responses, failure),
        certificate_ends_at=observation.certificate_ends_at,
        secret=_secret(access, failure),
        permissions=access.permissions,
        clock_skew=skew,
        seconds=observation.seconds,
        problems=tuple(_problems(account, access, failure, skew)),
    )


async def _read_all(
    account: Account,
    request: ProviderRequest | None,
    permit: Permit,
    responses: list[ProviderResponse],
    observation: Observation,
) -> None:
    """Append the response to each read, of which `request` is the first.

    Raises `Refused`, `NoResponse` and `UnexpectedResponse`.
    """
    connector = account.connector
    assert isinstance(connector, ShowsAccess)
    while request is not None and len(responses) < CHECK_READS:
        responses.append(
            await account.transport.send_idempotent(
                request, permit, ProviderCall.CHECK, observation
            )
        )
        # The other reads would be refused too.
        if responses[-1].status == 401:
            return
        request = await run_parser(responses[-1], connector.build_check, tuple(responses))


def _is_reachable(responses: Sequence[ProviderResponse], failure: Failure | None) -> bool | None:
    if responses:
        return True
    if isinstance(failure, NoResponse):
        return False
    # Without a limit that was reached, the provider has responded to the request for a token.
    return None if isinstance(failure, NoPermit) else True


def _rejects_secret(failure: Failure | None) -> bool:
    """Return whether the request for an access token was refused."""
    return isinstance(failure, Refused) and failure.error.code is ErrorCode.AUTHENTICATION_FAILED


def _secret(access: Access, failure: Failure | None) -> Secret:
    if access.is_accepted:
        return Secret.ACCEPTED
    if _rejects_secret(failure):
        return Secret.REFUSED
    is_refused = access.error and access.error.code is ErrorCode.AUTHENTICATION_FAILED
    return Secret.REFUSED if is_refused else Secret.UNKNOWN


def _clock_skew(responses: Sequence[ProviderResponse], received_at: datetime | None) -> int | None:
    """Return by how many seconds the provider's clock is ahead, by the header `Date`."""
    if not responses or received_at is None:
        return None
    response = responses[-1]
    try:
        sent_at = parsedate_to_datetime(response.headers.get("date", ""))
        age = int(response.headers.get("age", 0))
        skew = round((sent_at + timedelta(seconds=age + 0.5) - received_at).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
    # The header has whole seconds, and servers refresh it every second.
    return skew if abs(skew) > 1 else 0


def _problems(
    account: Account, access: Access, failure: Failure | None, skew: int | None
) -> Iterable[Problem]:
    match failure:
        case NoResponse():
            yield problem(account, ProblemCode.UNREACHABLE, reason=failure.details)
        case UnexpectedResponse():
            yield problem(account, ProblemCode.UNCLEAR_RESPONSE)
        case NoPermit():
            # After a 429, the provider's pause also refuses the reads that are left.
            if access.error is None or access.error.code is not ErrorCode.RATE_LIMITED:
                yield problem(account, ProblemCode.LIMIT_USED_UP, reason=failure.reason)
        case Refused():
            yield read_refused(account, failure.error)
    if access.error is not None:
        yield read_refused(account, access.error)
    if missing := needed(access.permissions):
        yield permissions_missing(account, missing)
    if skew is not None and abs(skew) > CLOCK_TOLERANCE:
        yield problem(account, ProblemCode.CLOCKS_DIFFER, seconds=f"{skew:+}")
