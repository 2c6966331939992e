"""Long responses: they do not block the event loop, and their secrets are redacted."""

import asyncio
import base64
import gc
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import pairwise
from time import perf_counter, thread_time
from typing import Any

import pytest

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.transport.client import COPY_RESPONSE_LIMIT, Transport
from campaign_gateway.accounts.transport.redaction import LONGEST_FORM, WINDOW, create_redactor
from campaign_gateway.accounts.transport.token_auth import TokenTransport, _CachedToken
from campaign_gateway.accounts.transport.worker import LOOP_LIMIT, run_parser
from campaign_gateway.connectors.contract import (
    ListsCampaigns,
    ProviderRequest,
    ProviderResponse,
    Token,
    UnexpectedResponse,
)
from campaign_gateway.duplication.copy_search import CopySigns, search_copies
from campaign_gateway.duplication.intents import CopyCall, new_call
from campaign_gateway.model import Rejected
from campaign_gateway.observe.health import account_health
from campaign_gateway.sandbox.contract_suite.calling import free_permit
from campaign_gateway.web.callers.caller import EVERYONE

SECRET = 'sk/live"a&b-12345'

LIST_BYTES = 4_000_000

# How long the event loop may be blocked, in seconds, on a machine that does nothing else.
LONGEST_STALL = 0.05


@contextmanager
def responding(body: bytes) -> Iterator[str]:
    """A provider in its own thread that responds to each request with the body."""

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            with connection, suppress(ConnectionError):
                asked = b""
                while b"\r\n\r\n" not in asked and (more := connection.recv(65536)):
                    asked += more
                if not asked:
                    return
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                connection.sendall(head + body)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            # A connection without a request ends the provider.
            socket.create_connection(listener.getsockname()).close()
            thread.join(10)


def sonarly_list() -> bytes:
    item = {
        "name": "Outreach, third quarter",
        "description": 'To "all" who asked: https://example.com/?a=1&b=2',
        "status": "draft",
        "createdAt": "2026-11-02T10:11:12.123Z",
        "updatedAt": "2026-11-02T10:11:12.123Z",
    }
    return _list({"success": True}, item, "data", "items")


def braze_list() -> bytes:
    item = {"name": "A campaign", "last_edited": "2026-11-02T10:11:12+00:00", "tags": ["a", "b"]}
    return _list({"message": "success"}, item, "campaigns")


def _list(around: dict[str, Any], item: dict[str, Any], *place: str) -> bytes:
    number = LIST_BYTES // len(json.dumps(item | {"id": "0" * 24}))
    items: Any = [item | {"id": f"{place:024x}"} for place in range(number)]
    for name in reversed(place):
        items = {name: items}
    return json.dumps(around | items).encode()


LISTS: dict[str, tuple[Callable[[], bytes], dict[str, str], dict[str, Any]]] = {
    "sonarly": (
        sonarly_list,
        {"api_key": "sk_live_4f9a1c77d0e2b6a8"},
        {
            "account_group_id": "g",
            "campaign_id": "c",
            "audience_id": "a",
            "name": "A copy",
            "lead_ids": None,
        },
    ),
    "braze": (
        braze_list,
        {"api_key": "a5c71b4f-90b3-4d6a-8e4b-3f8f5ce9d2b1"},
        {
            "campaign_id": "c",
            "name": "A copy",
            **dict.fromkeys(("description", "tag_names", "kind")),
        },
    ),
}


def now() -> datetime:
    return datetime.now(UTC)


async def _longest_stall(call: CopyCall) -> float:
    """For how long the event loop does not get to anything else while the list is read."""
    turns = [perf_counter()]

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.001)
            turns.append(perf_counter())

    ticking = asyncio.create_task(tick())
    listed = await search_copies(call, free_permit(), now, CopySigns(call.account.connector))
    await asyncio.sleep(0.01)
    ticking.cancel()
    assert not listed.campaigns
    return max(after - before for before, after in pairwise(turns))


@pytest.mark.parametrize("provider", LISTS)
async def test_long_list_does_not_block_the_event_loop(
    open_at: Callable[..., Account], provider: str
) -> None:
    make, settings, fields = LISTS[provider]
    body = make()
    with responding(body) as url:
        account = open_at(provider, url, **settings, timeout_seconds=60)
        call = new_call(EVERYONE, "key", account, account.connector.Input(**fields))
        assert isinstance(account.connector, ListsCampaigns)
        began = perf_counter()
        assert account.connector.parse_search(ProviderResponse(200, {}, body), None).campaigns
        in_one_go = perf_counter() - began
        allowed = max(LONGEST_STALL, in_one_go / 4)
        # Another process may hold the machine at any time, but hardly in each of the runs.
        stalls: list[float] = []
        while len(stalls) < 3 and min(stalls, default=allowed) >= allowed:
            stalls.append(await _longest_stall(call))
    assert min(stalls) < allowed, (stalls, in_one_go)


async def test_long_list_that_is_invalid_raises_unexpected_response(
    open_at: Callable[..., Account],
) -> None:
    _, settings, fields = LISTS["sonarly"]
    with responding(b"[" + b'"a", ' * LOOP_LIMIT) as url:
        account = open_at("sonarly", url, **settings)
        call = new_call(EVERYONE, "key", account, account.connector.Input(**fields))
        with pytest.raises(UnexpectedResponse):
            await search_copies(call, free_permit(), now, CopySigns(call.account.connector))
    assert gc.isenabled()


@pytest.mark.parametrize("size", [LOOP_LIMIT, LOOP_LIMIT + 1])
async def test_only_long_responses_are_parsed_in_another_thread(size: int) -> None:
    response = ProviderResponse(200, {}, b"x" * size)
    is_here = await run_parser(response, threading.get_ident) == threading.get_ident()
    assert is_here == (size == LOOP_LIMIT)


def _spelled(spell: Callable[[str], str]) -> str:
    return "".join(map(spell, SECRET))


SPELLINGS = {
    "plain": SECRET,
    "json": json.dumps(SECRET)[1:-1],
    "json in json in json": _spelled(lambda character: rf"\\\\u{ord(character):04x}"),
    "as many backslashes as there may be": _spelled(
        lambda character: "\\" * 16 + f"u{ord(character):04x}"
    ),
    "url": _spelled(lambda character: f"%{ord(character):02X}"),
    "url in url": _spelled(lambda character: f"%2525{ord(character):02x}"),
    "xml": _spelled(lambda character: f"&#{ord(character)};"),
    "the longest": _spelled(lambda character: f"&amp;amp;amp;amp;#x0000000{ord(character):x};"),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 with a user": base64.b64encode(f"u:{SECRET}".encode()).decode(),
    "base64 with a longer user": base64.b64encode(f"us:{SECRET}".encode()).decode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_secret_is_redacted_at_every_position_of_a_long_response(spelling: str) -> None:
    redact, spelled = create_redactor([SECRET]), SPELLINGS[spelling].encode()
    alone = redact(spelled)
    assert b"[redacted]" in alone
    assert len(spelled) <= LONGEST_FORM * len(SECRET)
    # The border of a window splits the secret at each of its positions.
    for cut in range(len(spelled) + 1):
        ahead = b"." * (WINDOW - cut)
        assert redact(ahead + spelled + ahead + spelled) == ahead + alone + ahead + alone, cut


@pytest.mark.parametrize("user", ["", "u:", "us:"])
def test_base64_of_a_secret_is_redacted_with_escapes_and_in_a_url(user: str) -> None:
    secret = "~~~???>>>~~~???>>>"
    redact, encoded = create_redactor([secret]), base64.b64encode(f"{user}{secret}".encode())
    assert b"+" in encoded or b"/" in encoded
    for spelled in (
        encoded,
        encoded.replace(b"/", b"\\/"),
        encoded.replace(b"/", b"\\\\\\/"),
        encoded.replace(b"/", b"\\u002F").replace(b"+", b"\\u002b"),
        encoded.replace(b"/", b"%2F").replace(b"+", b"%2b"),
        encoded.translate(bytes.maketrans(b"+/", b"-_")),
    ):
        redacted = redact(b'{"Authorization": "Basic ' + spelled + b'"}')
        assert b"[redacted]" in redacted, spelled
        assert max(map(len, redacted.split(b"[redacted]"))) < 31, redacted


def test_short_secret_is_redacted_only_as_a_word_at_a_window_border() -> None:
    redact = create_redactor(["abc"])
    for cut in range(5):
        ahead = b"." * (WINDOW - cut)
        assert redact(ahead + b"abc,") == ahead + b"[redacted],"
        for harmless in (b"abcd", b"xabc", b"x-abc-"):
            assert redact(ahead + harmless) == ahead + harmless


def test_secret_that_contains_another_secret_is_redacted_completely() -> None:
    assert create_redactor(["secret-1", "my-secret-1-of-2"])(b"my-secret-1-of-2") == b"[redacted]"


def test_body_of_partial_matches_is_redacted_in_linear_time() -> None:
    redact, harmless = create_redactor([SECRET]), b"." * COPY_RESPONSE_LIMIT

    def seconds(body: bytes) -> float:
        # The CPU time, because other processes may hold the machine.
        began = thread_time()
        assert redact(body) == body
        return thread_time() - began

    usual = min(seconds(b'{"name": "a slash"}, ' * (COPY_RESPONSE_LIMIT // 21)) for _ in range(3))
    for hostile in (b"\\", b"&", b"%25", b"&amp;", b"&#0", b"sk/live"):
        body = hostile * (len(harmless) // len(hostile))
        assert min(seconds(body) for _ in range(3)) < max(0.5, 50 * usual), hostile


async def test_secret_and_token_are_redacted_in_a_long_response() -> None:
    class Connector:
        """Has a valid token already."""

        def build_token_request(self) -> ProviderRequest:
            raise NotImplementedError

        def parse_token(self, response: ProviderResponse) -> Token | Rejected:
            raise NotImplementedError

        def authorize(self, request: ProviderRequest, token: str) -> ProviderRequest:
            return request

        def rejects_token(self, response: ProviderResponse) -> bool:
            return False

    token, long = "token-of-the-account", b"." * (COPY_RESPONSE_LIMIT - 5)
    signed = TokenTransport(
        Transport([SECRET], 20, health=account_health("tried", "sonarly", 60)), Connector()
    )
    signed._cached_token = _CachedToken(token, float("inf"), create_redactor([token]))
    with responding(long + SECRET.encode() + long + token.encode()) as url:
        response = await signed.send_idempotent(ProviderRequest("GET", url, {}), free_permit())
    await signed.close()
    assert response.body == long + b"[redacted]" + long + b"[redacted]"
