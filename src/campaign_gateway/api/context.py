"""What resolvers work with."""

from collections.abc import Mapping
from dataclasses import dataclass

import strawberry

from campaign_gateway.accounts import Account
from campaign_gateway.duplication.service import Duplicator
from campaign_gateway.ledger import Ledger

# How many of a router's references one request resolves, and how many campaigns it reads at
# providers, each of which may be a call of its own.
ENTITY_LIMIT = 100
CAMPAIGN_LIMIT = 50


@dataclass(slots=True)
class Context:
    """Of one request. `scope` says whose idempotency keys and duplications these are."""

    scope: str
    accounts: Mapping[str, Account]
    duplicator: Duplicator
    ledger: Ledger
    entities_left: int = ENTITY_LIMIT
    campaigns_left: int = CAMPAIGN_LIMIT


Info = strawberry.Info[Context, None]
