"""What resolvers work with."""

from collections.abc import Mapping
from dataclasses import dataclass

import strawberry

from campaign_gateway.accounts import Account
from campaign_gateway.duplication import Duplicator
from campaign_gateway.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Context:
    """`scope` says whose idempotency keys and duplications these are."""

    scope: str
    accounts: Mapping[str, Account]
    duplicator: Duplicator
    ledger: Ledger


Info = strawberry.Info[Context, None]
