"""Calls a provider as the gateway does, without a ledger."""

import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, cast

from anyio.from_thread import start_blocking_portal
from starlette.types import ASGIApp

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.transport.rate_limit import CallKind, Permit, RateLimiter
from campaign_gateway.connectors.contract import ProviderResponse
from campaign_gateway.duplication.completion import complete_copy, with_pending_warnings
from campaign_gateway.duplication.intents import CopyCall, make_intent
from campaign_gateway.model import Created, Duplication, DuplicationStatus, Outcome
from campaign_gateway.sandbox.emulation import serving
from campaign_gateway.web.callers.caller import EVERYONE


class Serve(Protocol):
    """Serves an application, and returns its base URL."""

    def __call__(self, app: ASGIApp, /) -> str: ...


@contextmanager
def serving_apps() -> Iterator[Serve]:
    """Yield a function that serves applications on loopback, until the end of the context."""
    # In another thread, because a test's event loop ends with the test.
    with start_blocking_portal() as portal, ExitStack() as servers:
        yield lambda app: servers.enter_context(portal.wrap_async_context_manager(serving(app)))


def free_permit() -> Permit:
    """Return a permit that never waits. It may be created without an event loop."""
    return Permit(RateLimiter(1, None), CallKind.COPY, math.inf)


def split_recording(path: Path) -> tuple[bytes, bytes]:
    """Return the head of a recorded response, and its body.

    Its lines end as an editor writes them, or as `curl -i` does.
    """
    head, *body = re.split(rb"\r?\n\r?\n", path.read_bytes(), maxsplit=1)
    return head.replace(b"\r\n", b"\n"), b"".join(body)


def read_recording(path: Path) -> ProviderResponse:
    """Return a recorded response as the transport passes it to a connector."""
    head, body = split_recording(path)
    status_line, *lines = head.decode("ascii").splitlines()
    fields = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in fields}
    return ProviderResponse(int(status_line.split()[1]), headers, body)


class _Record:
    """Replaces the ledger, and keeps the newest state of one copy."""

    def __init__(self, outcome: Created) -> None:
        self.outcome = outcome

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def update_copy(
        self, _duplication: object, copy: Created, _again: datetime | None
    ) -> None:
        self.outcome = replace(copy, trace_id=self.outcome.trace_id)


async def duplicate(account: Account, copy_input: Any) -> Outcome:
    """Make and complete one copy. Raises the errors of the transport."""

    async def nothing_to_record() -> None: ...

    request = account.connector.build_request(copy_input)
    permit = free_permit()
    response = await account.transport.send_once(request, permit, nothing_to_record)
    outcome = account.connector.parse_response(copy_input, response)
    if not isinstance(outcome, Created):
        return outcome
    intent = make_intent(EVERYONE, "key", account, copy_input)
    call = CopyCall(account, intent, copy_input)
    made = with_pending_warnings(call, outcome)
    record: Any = _Record(made)
    duplication = Duplication(
        intent,
        DuplicationStatus.CREATED,
        datetime.now(UTC),
        made.campaign,
        warnings=made.warnings,
    )
    await complete_copy(record, call, permit, duplication, account.timeout_seconds)
    return cast(Outcome, record.outcome)
