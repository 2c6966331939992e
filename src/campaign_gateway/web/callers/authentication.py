"""Finds the caller of each request, or refuses the request."""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from campaign_gateway.observe.registry import CALLER_REFUSALS
from campaign_gateway.web.callers.caller import (
    EVERYONE,
    PERSON_LENGTH,
    Caller,
    Right,
    is_person,
    scope_of,
)
from campaign_gateway.web.callers.keys import PREFIX, Keys
from campaign_gateway.web.callers.refusals import (
    FORBIDDEN,
    RATE_LIMITED,
    CallerRefused,
    RefusalLog,
    Unauthenticated,
    refusal_response,
)
from campaign_gateway.web.callers.request_rate import RequestRate
from campaign_gateway.web.callers.settings import CallerSettings, JwtSettings

if TYPE_CHECKING:
    from campaign_gateway.web.callers.key_set import KeySet
    from campaign_gateway.web.callers.tokens import Tokens

# The header in which a caller with the right `name-person` names the person.
PERSON_HEADER = "campaign-gateway-person"

Fetch = Callable[[str], Awaitable[bytes]]

_BEARER = re.compile(r"bearer +([\x21-\x7e]+)", re.IGNORECASE)


class Callers:
    """The configured callers. If none is configured, every request comes from `EVERYONE`.

    `fetch` returns the document at a URL. It raises `KeySetUnavailable`. `clock` returns seconds
    since 1970.
    """

    def __init__(
        self,
        settings: Mapping[str, CallerSettings],
        jwt: JwtSettings | None,
        fetch: Fetch,
        clock: Callable[[], float],
    ) -> None:
        self._by_name = {
            name: Caller(name, scope_of(name), caller.accounts, caller.may)
            for name, caller in settings.items()
        }
        self._keys = Keys({name: caller.key for name, caller in settings.items()}, clock)
        self._rates = {
            name: RequestRate(caller.requests_per_minute) for name, caller in settings.items()
        }
        self._key_set: KeySet | None = None
        self._tokens: Tokens | None = None
        if jwt is not None:
            # Without tokens, the library for them would still take 10 MB and 30 ms.
            from campaign_gateway.web.callers import key_set, tokens  # noqa: PLC0415

            load = (
                partial(key_set.load_file, Path(jwt.jwks.file))
                if jwt.jwks
                else partial(fetch, jwt.url)
            )
            self._key_set = key_set.KeySet(load)
            self._tokens = tokens.Tokens(jwt, self._key_set, self._by_name, clock)

    def start(self) -> None:
        """Begin to load the keys of tokens, so that the first token does not wait for them."""
        if self._key_set is not None:
            self._key_set.start_loading()

    async def close(self) -> None:
        if self._key_set is not None:
            await self._key_set.close()

    async def identify(self, scope: Scope) -> Caller:
        """Return the caller of a request, given as its ASGI scope. Raises `CallerRefused`."""
        if not self._by_name:
            return EVERYONE
        caller = await self._owner_of(_credential(_header_values(scope, "authorization")))
        self._limit_rate(caller)
        names = _header_values(scope, PERSON_HEADER)
        return _with_person(caller, names) if names else caller

    def _limit_rate(self, caller: Caller) -> None:
        assert caller.name is not None
        wait = self._rates[caller.name].take(monotonic())
        if wait:
            raise CallerRefused(
                429,
                RATE_LIMITED,
                "This caller sends more requests than its `requests_per_minute` allows. Try again "
                "later.",
                f"too many requests of {caller.name}",
                {"retry-after": str(ceil(wait))},
            )

    async def _owner_of(self, credential: str) -> Caller:
        if credential.startswith(PREFIX):
            return self._by_name[self._keys.owner_of(credential)]
        if self._tokens is None:
            raise Unauthenticated("a credential that is no key")
        return await self._tokens.owner_of(credential)


def _header_values(scope: Scope, name: str) -> list[str]:
    encoded = name.encode()
    return [value.decode("latin-1") for key, value in scope["headers"] if key == encoded]


def _credential(headers: list[str]) -> str:
    # The reasons do not name the header, because the log removes what follows its name.
    if not headers:
        raise Unauthenticated("no credential")
    if len(headers) > 1:
        raise Unauthenticated("several credentials")
    match = _BEARER.fullmatch(headers[0])
    if match is None:
        raise Unauthenticated("a credential that is not of the scheme Bearer")
    return match[1]


def _with_person(caller: Caller, names: list[str]) -> Caller:
    if Right.NAME_PERSON not in caller.rights:
        raise CallerRefused(
            403,
            FORBIDDEN,
            f"This caller may not send the header {PERSON_HEADER}.",
            f"the header {PERSON_HEADER} from {caller.name}, which lacks the right name-person",
        )
    name = names[0] if len(names) == 1 else ""
    if not name.isascii() or not is_person(name):
        raise CallerRefused(
            400,
            "INVALID_REQUEST",
            f"The header {PERSON_HEADER} must be sent once, with 1 to {PERSON_LENGTH} printable "
            "ASCII characters.",
            f"an invalid header {PERSON_HEADER} from {caller.name}",
        )
    # A token shows the person, and the header only claims one.
    return caller if caller.person else replace(caller, person=name)


def caller_of(request: Request) -> Caller:
    """Return the caller that `Authentication` has found."""
    caller: Caller = request.scope["caller"]
    return caller


class Authentication:
    """ASGI middleware that puts the caller of each request into its scope, as `caller`.

    Requests to `public_paths` pass without a caller. The response to a request without a valid
    credential does not depend on anything else in it.
    """

    def __init__(self, app: ASGIApp, callers: Callers, public_paths: Collection[str]) -> None:
        self._app = app
        self._callers = callers
        self._public_paths = public_paths
        self._log = RefusalLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._public_paths:
            try:
                scope["caller"] = await self._callers.identify(scope)
            except CallerRefused as refusal:
                CALLER_REFUSALS.labels(refusal.code).inc()
                self._log.add(refusal.reason)
                response = refusal_response(refusal, Request(scope).headers.getlist("accept"))
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)
