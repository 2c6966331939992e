"""The configured accounts: settings, connector, transport and limits of each."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from campaign_gateway.connectors.account_settings import AccountSettings, canonical_address
from campaign_gateway.connectors.contract import Connector, UsesAccessTokens
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.model import ErrorCode, Refused, UserError
from campaign_gateway.transport.client import Transport
from campaign_gateway.transport.rate_limit import RateLimiter
from campaign_gateway.transport.token_auth import TokenTransport


@dataclass(frozen=True)
class Account:
    """One configured access to a provider.

    `address` is the normalised address of the provider. Accounts that see the same campaigns have
    the same `place`.
    """

    name: str
    address: str
    shared_campaigns: str | None
    timeout_seconds: float
    connector: Connector[Any]
    transport: Transport | TokenTransport
    rate_limiter: RateLimiter

    @property
    def place(self) -> str:
        return f"{self.connector.provider}@{self.shared_campaigns or self.address}"


def open_account(name: str, settings: AccountSettings) -> Account:
    connector = CONNECTORS[settings.provider](settings)
    transport = Transport(settings.secrets(), settings.timeout_seconds, settings.ca_file)
    return Account(
        name=name,
        address=canonical_address(settings.root),
        shared_campaigns=settings.shared_campaigns,
        timeout_seconds=settings.timeout_seconds,
        connector=connector,
        transport=TokenTransport(transport, connector)
        if isinstance(connector, UsesAccessTokens)
        else transport,
        rate_limiter=RateLimiter(
            settings.calls_at_once, settings.calls_per_minute, settings.calls_per_second
        ),
    )


def unclear_addresses(accounts: Iterable[Account]) -> Iterator[str]:
    """Yield a warning for each provider whose accounts may or may not see the same campaigns.

    If they do and the gateway does not know it, one account could claim another one's lost copy.
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
                f"the {provider} accounts {places} have different addresses. If they see the same "
                "campaigns, set the same shared_campaigns for them, otherwise different ones. It "
                f"is missing for {unset}"
            )


def choose_account(accounts: Mapping[str, Account], provider: str, name: str | None) -> Account:
    """Return the named account, or the only one of its provider. Raises `Refused`."""
    of_provider = [
        account for account in accounts.values() if account.connector.provider == provider
    ]
    if name is not None:
        of_provider = [account for account in of_provider if account.name == name]
    if len(of_provider) == 1:
        return of_provider[0]
    if name is not None:
        message = f"There is no {provider} account with this name: see Query.accounts."
    elif of_provider:
        message = f"There are several {provider} accounts. Set `account` to one of Query.accounts."
    else:
        message = f"No {provider} account is configured."
    raise Refused(UserError(ErrorCode.UNKNOWN_ACCOUNT, message, field=("account",)))
