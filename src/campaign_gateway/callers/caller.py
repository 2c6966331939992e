"""A caller: who sends a request, and what it may do."""

from dataclasses import dataclass
from enum import StrEnum

# In place of a list of accounts.
ALL_ACCOUNTS = "*"


class Right(StrEnum):
    """What a caller may do. The values are those of the setting `may`."""

    COPY = "copy"
    READ = "read"
    ACTIVATE = "activate"
    INTROSPECT = "introspect"
    NAME_PERSON = "name-person"


@dataclass(frozen=True, slots=True)
class Caller:
    """`scope` is the owner of idempotency keys and duplications in the ledger.

    `name` is None if no callers are configured. `person` is the person for whom it sends the
    request, if that is known.
    """

    name: str | None
    scope: str
    accounts: frozenset[str]
    rights: frozenset[Right]
    person: str | None = None

    def may_use(self, account: str) -> bool:
        return account in self.accounts or ALL_ACCOUNTS in self.accounts


# Every request comes from this caller if no callers are configured.
EVERYONE = Caller(None, "everyone", frozenset({ALL_ACCOUNTS}), frozenset(Right))


def scope_of(name: str) -> str:
    """Return the scope of a configured caller. No name has a colon, so none is `everyone`."""
    return f"caller:{name}"
