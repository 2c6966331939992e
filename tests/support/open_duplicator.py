"""A duplicator as in a gateway without configured callers."""

from collections.abc import Mapping
from typing import Any

from campaign_gateway.accounts.account import Account
from campaign_gateway.connectors.contract import CopyInput
from campaign_gateway.duplication.service import DuplicationResult, Duplicator
from campaign_gateway.web.callers.caller import EVERYONE


class OpenDuplicator(Duplicator):
    """Everyone may use all of its accounts."""

    def __init__(self, accounts: Mapping[str, Account], ledger: Any, deadline: float) -> None:
        super().__init__(ledger, deadline)
        self._accounts = accounts

    async def ask(
        self, key: str, provider: str, copy_input: CopyInput, override_of: str | None = None
    ) -> DuplicationResult:
        return await self.duplicate(
            EVERYONE, self._accounts, key, provider, copy_input, override_of=override_of
        )
