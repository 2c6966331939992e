"""The configured accounts, each with what a call to its provider needs."""

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

    `address` is where it leads to, in one spelling. `place` is the same for accounts that see the
    same campaigns.
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
    """For each provider with several addresses, which of its accounts may see the same campaigns.

    One account could take a lost copy of another one's for its own then.
    """
    by_provider: dict[str, list[Account]] = {}
    for each in accounts:
        by_provider.setdefault(each.connector.provider, []).append(each)
    for provider, group in by_provider.items():
        unclear = [each for each in group if each.shared_campaigns is None]
        if unclear and len({each.place for each in group}) > 1:
            places = ", ".join(f"{each.name} ({each.address})" for each in group)
            unset = ", ".join(each.name for each in unclear)
            yield (
                f"the {provider} accounts {places} lead to different addresses. If they show the "
                "same campaigns, give them the same shared_campaigns, else different ones. It is "
                f"missing for {unset}"
            )


def choose_account(accounts: Mapping[str, Account], provider: str, name: str | None) -> Account:
    """The named account, or the only one of its provider. Raises `Refused`."""
    of_provider = [each for each in accounts.values() if each.connector.provider == provider]
    if name is not None:
        of_provider = [each for each in of_provider if each.name == name]
    if len(of_provider) == 1:
        return of_provider[0]
    if name is not None:
        message = f"There is no {provider} account of this name; see Query.accounts."
    elif of_provider:
        message = f"There are several {provider} accounts; name one of Query.accounts."
    else:
        message = f"No {provider} account is configured."
    raise Refused(UserError(ErrorCode.UNKNOWN_ACCOUNT, message, field=("account",)))
