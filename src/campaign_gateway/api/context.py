"""The values that resolvers use."""

from collections.abc import Mapping
from dataclasses import dataclass

import strawberry

from campaign_gateway.accounts.account import Account
from campaign_gateway.duplication.service import Duplicator
from campaign_gateway.ledger import Ledger
from campaign_gateway.web.callers.caller import Caller

# How many references of a router one request resolves, and how many campaigns it reads from
# providers. Each campaign may cost one call.
ENTITY_LIMIT = 100
CAMPAIGN_LIMIT = 50


@dataclass(slots=True)
class Context:
    """The context of one request.

    `accounts` are those that the caller may use. Resolvers know no others, so any other account is
    to them one that does not exist. Reads at providers end at `reads_end_at`, a time of the loop's
    clock.
    """

    caller: Caller
    accounts: Mapping[str, Account]
    duplicator: Duplicator
    ledger: Ledger
    reads_end_at: float
    entities_left: int = ENTITY_LIMIT
    campaigns_left: int = CAMPAIGN_LIMIT

    @property
    def scope(self) -> str:
        """The owner of the idempotency keys and duplications that the caller sees."""
        return self.caller.scope


Info = strawberry.Info[Context, None]
