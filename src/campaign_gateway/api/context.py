"""What resolvers work with."""

from collections.abc import Mapping
from dataclasses import dataclass

import strawberry

from campaign_gateway.accounts import Account
from campaign_gateway.duplication import Duplicator
from campaign_gateway.ledger import Ledger

# How many campaigns one request reads at providers; each may be a call of its own.
CAMPAIGN_LIMIT = 50


@dataclass(slots=True)
class Context:
    """Of one request. `scope` says whose idempotency keys and duplications these are."""

    scope: str
    accounts: Mapping[str, Account]
    duplicator: Duplicator
    ledger: Ledger
    campaigns_left: int = CAMPAIGN_LIMIT


Info = strawberry.Info[Context, None]
