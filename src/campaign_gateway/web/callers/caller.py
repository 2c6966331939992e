"""A caller: who sends a request, and what it may do."""

from dataclasses import dataclass
from enum import StrEnum

# Characters of a person's name.
PERSON_LENGTH = 200

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
class Quota:
    """What the duplications of a caller may occupy in the ledger. `size` is in bytes."""

    unknown: int
    records: int
    size: int


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


def is_person(name: object) -> bool:
    """Whether the name of a person can be recorded, and shown on one line."""
    return isinstance(name, str) and 0 < len(name) <= PERSON_LENGTH and name.isprintable()


def scope_of(name: str) -> str:
    """Return the scope of a configured caller. No name has a colon, so none is `everyone`."""
    return f"caller:{name}"
