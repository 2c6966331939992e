"""What the resolvers see and return, decided by one random number. Some of it is nonsense."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from inspect import isawaitable
from random import Random
from types import SimpleNamespace
from typing import Any

from graphql import GraphQLError

from campaign_gateway.api.types import Requester
from campaign_gateway.duplication.service import DuplicationResult
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.model import (
    Campaign,
    CampaignStatus,
    CopyWarning,
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Intent,
    Refused,
    UserError,
    WarningCode,
)

ID = "019a3f5e-7c00-7d11-8a22-0123456789ab"
TIME = datetime(2026, 1, 31, 12, tzinfo=UTC)
TEXTS = ["", "Spring", 'a "quoted" \\ line\n', "\0\x1f", "äöü €", "\ud800", "😀", "x" * 300]
ODD = [None, 5, "odd", [], ["a", None], ("a",), True, GraphQLError("odd"), ValueError("odd")]
FAILURES = [LedgerUnavailable("down"), GraphQLError("no"), ValueError("a bug")]


class OddWorld:
    """A ledger, a duplicator and providers."""

    is_draining = True

    def __init__(self, random: Random) -> None:
        self._random = random
        self.copies = 0
        self.accounts = {name: _account(name) for name in ("mailchimp", "braze")}
        self.record = None if random.random() < 0.1 else self.duplication()
        self._records = [self.duplication() for _ in range(random.choice([0, 1, 3]))]
        self._campaigns = [self._campaign(), None, self._campaign(), GraphQLError("gone")]
        self._refusal = self._error()
        self._failure = random.choice(FAILURES) if random.random() < 0.1 else None
        self._oddness = random.choice([0, 0.02, 0.1])

    # What resolvers call

    async def duplicate(self, *_: object, **__: object) -> DuplicationResult:
        self.copies += 1
        return DuplicationResult(self.record, self._refusal)

    async def get(self, *_: object) -> Duplication | None:
        self._fail()
        return self.record

    async def find(self, *_: object) -> Duplication | None:
        return await self.get()

    async def get_all(self, *_: object) -> Sequence[Duplication]:
        self._fail()
        return self._records

    async def page(self, *_: object) -> tuple[Sequence[Duplication], None]:
        self._fail()
        return self._records, None

    async def campaigns(
        self, _context: object, keys: Iterable[tuple[str, str]]
    ) -> Mapping[tuple[str, str], Campaign | GraphQLError | None]:
        self._fail()
        return {key: self._campaigns[len(key[1]) % len(self._campaigns)] for key in keys}

    async def preview(self, *_: object) -> Refused:
        self._fail()
        return Refused(self._refusal or UserError(ErrorCode.CONFLICT, "no"))

    def _fail(self) -> None:
        if self._failure is not None:
            raise self._failure

    # What resolvers return

    def spoiling(self, result: Any) -> Any:
        """Return the result of a resolver with odd values in it, awaited as before."""
        return self._spoil_later(result) if isawaitable(result) else self.spoil(result)

    async def _spoil_later(self, result: Awaitable[Any]) -> Any:
        return self.spoil(await result)

    def spoil(self, value: Any) -> Any:
        if self._random.random() < self._oddness:
            return self._random.choice([*ODD, Requester(caller="odd", person=None)])
        if isinstance(value, list):
            return [self.spoil(item) for item in value]
        if is_dataclass(value):
            for field in fields(value):
                setattr(value, field.name, self.spoil(getattr(value, field.name)))
        return value

    # What the ledger and the providers have

    def duplication(self, campaign: Campaign | None = None) -> Duplication:
        return Duplication(
            self._intent(),
            self._random.choice(list(DuplicationStatus)),
            TIME,
            campaign or self._maybe(self._campaign),
            self._error(),
            self._random.choice([None, *Evidence]),
            settled_at=self._maybe(lambda: TIME),
            warnings=tuple(
                CopyWarning(WarningCode.PARTIAL_COPY, self._text())
                for _ in range(self._random.choice([0, 1, 2]))
            ),
        )

    def _intent(self) -> Intent:
        return Intent(
            id=ID,
            attempt_id="",
            scope="caller:web",
            key=self._text(),
            fingerprint="",
            provider=self._random.choice(["braze", "sonarly"]),
            account=self._text(),
            source_campaign_id=self._text(),
            requested_name=self._maybe(self._text),
            input="{}",
            caller=self._maybe(self._text),
        )

    def _error(self) -> UserError | None:
        code, path = self._random.choice(list(ErrorCode)), self._random.choice([None, ("input",)])
        error = UserError(code, self._text(), path, None, self._text())
        return None if self._random.random() < 0.5 else error

    def _campaign(self) -> Campaign:
        return Campaign(
            self._text(),
            self._maybe(self._text),
            status=self._random.choice(list(CampaignStatus)),
            tags=self._random.choice([None, (), ("a", self._text())]),
            created_at=self._maybe(lambda: TIME),
        )

    def _text(self) -> str:
        return self._random.choice(TEXTS)

    def _maybe(self, make: Callable[[], Any]) -> Any:
        return self._random.choice([None, make()])


def _account(provider: str) -> Any:
    return SimpleNamespace(name=provider, connector=SimpleNamespace(provider=provider))
