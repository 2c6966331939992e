"""The fixtures and parameters of every case."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from http.client import HTTPConnection
from types import ModuleType
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from campaign_gateway.accounts.account import Account
from campaign_gateway.connectors.contract import Connector, ProviderResponse
from campaign_gateway.sandbox.contract_suite.calling import Serve, serving_apps
from campaign_gateway.sandbox.contract_suite.ids import shown
from campaign_gateway.sandbox.contract_suite.names import ORDINARY_NAMES, STRANGE_NAMES
from campaign_gateway.sandbox.contract_suite.subject import (
    LateOptions,
    Subject,
    can_be_named,
    connect,
    example_of,
    open_at,
)

Counted = Callable[[], dict[str, Any]]
OpenAt = Callable[..., Account]


@dataclass
class Echo:
    """A server's URL, the responses that it will send, and the requests that it received."""

    url: str = ""
    responses: list[ProviderResponse] = field(default_factory=list)
    received: list[str] = field(default_factory=list)


# The kinds of recordings behind each parameter. The first part of a recording's name is its kind.
KINDS = {
    "copy_recording": ("created", "accepted", "rejected", "unknown"),
    "success_recording": ("created", "accepted"),
    "created_recording": ("created",),
    "search_recording": ("search",),
    "lookup_recording": ("lookup",),
    "rename_recording": ("renamed", "unnamed"),
    "progress_recording": ("progress",),
    "token_recording": ("signin",),
    "access_recording": ("access",),
}


@cache
def parameters_of(subject: Subject) -> Mapping[str, Mapping[str, Any]]:
    """Return the values of each parameter that depends on the connector, by their names.

    A case that has a parameter without a value is left out.
    """
    emulator, requests = subject.emulator, subject.requests
    recordings = {name: subject.recordings(*kinds) for name, kinds in KINDS.items()}
    recordings["search_success"] = [
        path
        for path in recordings["search_recording"]
        if path.read_bytes().startswith(b"HTTP/1.1 2")
    ]
    names = ORDINARY_NAMES + STRANGE_NAMES if can_be_named(example_of(subject.connector)) else []
    status = subject.documented_success
    limited = getattr(emulator, "LIMITED_ACCOUNT", None)
    return {
        "account": {name: name for name in emulator.ACCOUNTS},
        "source": {str(source): source for source in emulator.OUTCOMES},
        **{name: {path.stem: path for path in paths} for name, paths in recordings.items()},
        "requested_name": {shown(name): name for name in names},
        "recorded_name": {name: name for name in requests["recorded"]},
        "taken_name": {name: name for name in requests["also_taken"]},
        "refused_name": {name: name for name in requests["refused"]},
        "documented_success": {} if status is None else {str(status): status},
        "given_name": {name: pair for pair in subject.given_names.items() for name in pair[:1]},
        "wrong_option": {str(number): one for number, one in enumerate(subject.wrong_options)},
        "limited_account": {} if limited is None else {"limited": limited},
        "fingerprint": {} if subject.fingerprint is None else {"example": subject.fingerprint},
    }


class Fixtures:
    """The base of each class of cases."""

    tried: ClassVar[Subject]

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        for name, values in parameters_of(cls.tried).items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(
                    name,
                    values.values(),
                    ids=values.keys(),
                    # The cases of an account share its fixtures.
                    scope="class" if name == "account" else "function",
                )

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls) -> Subject:
        return cls.tried

    @pytest.fixture(scope="class")
    @classmethod
    def emulator(cls) -> ModuleType:
        return cls.tried.emulator

    @pytest.fixture(scope="class")
    @classmethod
    def connector(cls, account: str) -> Connector[Any]:
        return connect(cls.tried, account)

    @pytest.fixture(scope="class")
    @classmethod
    def copy_input(cls) -> Any:
        return example_of(cls.tried.connector)

    @pytest.fixture(scope="class")
    @classmethod
    def serve(cls) -> Iterator[Serve]:
        with serving_apps() as serve:
            yield serve

    @pytest.fixture(scope="class")
    @classmethod
    def emulator_url(cls, serve: Serve) -> str:
        """The base URL of the emulator, which all cases of the class share."""
        return serve(cls.tried.emulator.create_emulator())

    @pytest_asyncio.fixture
    async def open_at(self) -> AsyncIterator[OpenAt]:
        """Opens an account at a URL, with more settings by name."""
        opened: list[Account] = []

        def open_one(url: str, **settings: object) -> Account:
            opened.append(open_at(self.tried, url, **settings))
            return opened[-1]

        yield open_one
        await asyncio.gather(*(account.close() for account in opened))

    @pytest.fixture
    def live(self, account: str, emulator_url: str, open_at: OpenAt) -> Account:
        """The account at its running emulator."""
        return open_at(emulator_url, **self.tried.emulator.ACCOUNTS[account])

    @pytest.fixture
    def counted(self, emulator_url: str) -> Counted:
        """Returns the copies that the emulator has made, by the emulator's own count."""

        def ask() -> dict[str, Any]:
            connection = HTTPConnection(urlsplit(emulator_url).netloc, timeout=10)
            connection.request("GET", "/_emulator/copies")
            copies: dict[str, Any] = json.load(connection.getresponse())
            connection.close()
            return copies

        return ask

    @pytest.fixture
    def emulated(
        self, account: str, source: Any, emulator_url: str, open_at: OpenAt
    ) -> tuple[Account, Any, str]:
        """An account at its emulator, an input for one of its outcomes, and the description."""
        emulator = self.tried.emulator
        description = emulator.OUTCOMES[source]
        # "copied, with kind: CAMPAIGN" names the other fields that the input needs.
        _, _, changes = description.partition(", with ")
        copy_input = replace(example_of(self.tried.connector, changes), campaign_id=source)
        timeout = 0.5 if "no response" in description else 5
        settings = {"timeout_seconds": timeout, **emulator.ACCOUNTS[account]}
        return open_at(emulator_url, **settings), copy_input, description

    @pytest.fixture
    def late_options(self, account: str) -> LateOptions:
        return self.tried.late_options[account]

    @pytest_asyncio.fixture
    async def echo(self) -> AsyncIterator[Echo]:
        """A server that sends given responses, and keeps the requests that it received."""
        echo = Echo()

        async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"(?i)^content-length: (\d+)", head, re.MULTILINE)
            body = await reader.readexactly(int(length[1])) if length else b""
            echo.received.append(head + body.decode())
            # The calls after a copy do not matter here.
            sent = echo.responses.pop(0) if echo.responses else ProviderResponse(500, {}, b"")
            fields = {**sent.headers, "content-length": len(sent.body), "connection": "close"}
            lines = [f"{name}: {value}\r\n" for name, value in fields.items()]
            writer.write(
                f"HTTP/1.1 {sent.status} Sent\r\n{''.join(lines)}\r\n".encode() + sent.body
            )
            await writer.drain()
            writer.close()

        # It runs in the event loop of the test, because each test sends it many requests.
        server = await asyncio.start_server(respond, "127.0.0.1", 0)
        echo.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield echo
