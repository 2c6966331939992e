"""The configured accounts, each with what a call to its provider needs."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from campaign_gateway.accounts.transport.client import Transport
from campaign_gateway.accounts.transport.rate_limit import RateLimiter
from campaign_gateway.accounts.transport.shared_limits import LimitStore, SharedLimits
from campaign_gateway.accounts.transport.token_auth import TokenTransport
from campaign_gateway.connectors.account_settings import AccountSettings
from campaign_gateway.connectors.addresses import canonical_address
from campaign_gateway.connectors.contract import Connector, UsesAccessTokens
from campaign_gateway.connectors.registry import find_connector
from campaign_gateway.model import DEFAULT_TIMING, ErrorCode, Refused, Timing, UserError
from campaign_gateway.observe.health import Health, account_health

# How often the gateway looks which accounts other gateways have paused, in seconds.
PAUSES_INTERVAL = 1.0


@dataclass(frozen=True)
class Account:
    """One configured access to a provider.

    `address` is the normalized host and port of its base URL. `place` is equal for accounts that
    see the same campaigns.
    """

    name: str
    address: str
    shared_campaigns: str | None
    timeout_seconds: float
    connector: Connector[Any]
    transport: Transport | TokenTransport
    rate_limiter: RateLimiter
    health: Health
    timing: Timing = DEFAULT_TIMING

    @property
    def place(self) -> str:
        return f"{self.connector.provider}@{self.shared_campaigns or self.address}"

    async def close(self) -> None:
        await self.rate_limiter.close()
        await self.transport.close()


def open_account(
    name: str,
    settings: AccountSettings,
    timing: Timing = DEFAULT_TIMING,
    limit_store: LimitStore | None = None,
) -> Account:
    """Open an account, whose limits all gateways with the same `limit_store` share."""
    connector = find_connector(settings.provider)(settings)
    health = account_health(name, settings.provider, timing.problem_over_after)
    transport = Transport(
        settings.secrets(), settings.timeout_seconds, settings.ca_file, health=health
    )
    return Account(
        name=name,
        address=canonical_address(settings.root),
        shared_campaigns=settings.shared_campaigns,
        timeout_seconds=settings.timeout_seconds,
        connector=connector,
        transport=TokenTransport(transport, connector, timing.token_timeout)
        if isinstance(connector, UsesAccessTokens)
        else transport,
        rate_limiter=RateLimiter(
            settings.calls_at_once,
            settings.calls_per_minute,
            settings.calls_per_second,
            SharedLimits(name, limit_store) if limit_store is not None else None,
        ),
        health=health,
        timing=timing,
    )


def unclear_addresses(accounts: Iterable[Account]) -> Iterator[str]:
    """Yield a warning for each provider whose accounts may or may not see the same campaigns.

    The gateway could then assign one account's lost copy to another account.
    """
    by_provider: dict[str, list[Account]] = {}
    for account in accounts:
        by_provider.setdefault(account.connector.provider, []).append(account)
    for provider, group in by_provider.items():
        unclear = [account for account in group if account.shared_campaigns is None]
        if unclear and len({account.place for account in group}) > 1:
            places = ", ".join(f"{account.name} ({account.address})" for account in group)
            unset = ", ".join(account.name for account in unclear)
            yield (
                f"the {provider} accounts {places} have different addresses. If they show the same "
                "campaigns, set the same shared_campaigns for all of them. Otherwise set different "
                f"values. Accounts without shared_campaigns: {unset}"
            )


def choose_account(accounts: Mapping[str, Account], provider: str, name: str | None) -> Account:
    """Return the named account, or the only one of its provider. Raises `Refused`."""
    candidates = [
        account for account in accounts.values() if account.connector.provider == provider
    ]
    if name is not None:
        candidates = [account for account in candidates if account.name == name]
    if len(candidates) == 1:
        return candidates[0]
    if name is not None:
        message = f"There is no {provider} account with this name: see Query.accounts."
    elif candidates:
        message = f"There are several {provider} accounts. Set `account` to one of Query.accounts."
    else:
        message = f"No {provider} account is configured."
    path = ("input", provider, "account")
    raise Refused(UserError(ErrorCode.UNKNOWN_ACCOUNT, message, field=path))


async def follow_pauses(accounts: Mapping[str, Account], store: LimitStore) -> None:
    """Pause the accounts that another gateway has paused, for ever."""
    while True:
        for name, seconds in (await store.pauses() or {}).items():
            if name in accounts:
                accounts[name].rate_limiter.learn_pause(seconds)
        await asyncio.sleep(PAUSES_INTERVAL)
