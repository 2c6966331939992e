"""The key set is fetched rarely, with any requests of callers and any faults of its server."""

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import Key

from campaign_gateway.settings import SettingsError, parse_settings
from campaign_gateway.web.callers import key_set as key_set_module
from campaign_gateway.web.callers.key_set import (
    KeySet,
    KeySetUnavailable,
    load_file,
    parse_key_set,
)
from campaign_gateway.web.callers.refusals import Unauthenticated
from support.calling import CalledGateway, called_gateway
from support.issuer import EC, OTHER_RSA, RSA, Issuer, issuing, jwt_section, token

CALLERS: dict[str, dict[str, object]] = {"web-team": {"accounts": "*", "may": ["read"]}}

WRONG_MODES = ["hang", "drip", "huge", "redirect", "error", "garbage", "compressed", "no keys"]


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as running:
        yield running


def status(called: CalledGateway, credential: str) -> int:
    return called.client_with(credential).post("{ __typename }").status_code


@pytest.mark.parametrize("mode", WRONG_MODES)
def test_key_set_that_cannot_be_used_refuses_tokens_quickly(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(key_set_module, "WAIT_SECONDS", 0.3)
    issuer.mode = mode
    with called_gateway(tmp_path, CALLERS, ["braze"], jwt=jwt_section(issuer)) as called:
        began = time.monotonic()
        assert [status(called, token()) for _ in range(5)] == [401] * 5
        # Far below what the server takes, and above what a busy machine needs.
        assert time.monotonic() - began < 15
        assert len(issuer.fetches) == 1
        # Keys need no key set.
        assert called.client("web-team").post("{ __typename }").status_code == 200


def test_unreachable_key_set_refuses_tokens(issuer: Issuer, tmp_path: Path) -> None:
    section = jwt_section(issuer, jwks_url="http://127.0.0.1:9/keys")
    with called_gateway(tmp_path, CALLERS, ["braze"], jwt=section) as called:
        assert status(called, token()) == 401
        assert called.client("web-team").post("{ __typename }").status_code == 200


def test_flood_of_unknown_key_ids_fetches_once(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with called_gateway(tmp_path, CALLERS, ["braze"], jwt=jwt_section(issuer)) as called:
        assert status(called, token()) == 200
        flood = [token(key=OTHER_RSA, kid=f"unknown-{number}") for number in range(200)]
        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(lambda each: status(called, each), flood)) == {401}
        # The first one found a key set that was fetched a moment before.
        assert len(issuer.fetches) == 1
        assert status(called, token()) == 200


# With a clock that the test moves.


class Server:
    """Loads keys as a server would, and counts the loads by the test's clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.keys: list[Key] = [RSA]
        self.failure: Exception | None = None
        self.hangs = False
        self.loads: list[float] = []
        monkeypatch.setattr(key_set_module, "monotonic", lambda: self.now)
        monkeypatch.setattr(key_set_module, "WAIT_SECONDS", 0.001)

    async def load(self) -> bytes:
        self.loads.append(self.now)
        if self.hangs:
            await asyncio.sleep(3600)
        if self.failure:
            raise self.failure
        return json.dumps({"keys": [key.as_dict(private=False) for key in self.keys]}).encode()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(monkeypatch)


async def found(keys: KeySet, key_id: str | None) -> bool:
    try:
        await keys.find(key_id)
    except Unauthenticated:
        return False
    return True


@pytest.mark.parametrize("state", ["right", "fails", "hangs"])
async def test_no_minute_has_three_loads(
    server: Server, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(key_set_module, "LOAD_SECONDS", 0.01)
    server.failure = KeySetUnavailable("down") if state == "fails" else None
    server.hangs = state == "hangs"
    keys = KeySet(server.load)
    for number in range(600):
        server.now += 1.0
        for _ in range(3):
            assert not await found(keys, f"unknown-{number}")
        assert await found(keys, "rsa") is (state == "right")
        await asyncio.sleep(0)
    assert len(server.loads) >= 15
    for began in server.loads:
        assert len([each for each in server.loads if began <= each <= began + 60]) <= 2
    await keys.close()


async def test_loaded_keys_stay_while_loading_fails(server: Server) -> None:
    keys = KeySet(server.load)
    assert await found(keys, "rsa")
    server.failure = KeySetUnavailable("down")
    for _ in range(100):
        server.now += 700
        assert await found(keys, "rsa")
        await asyncio.sleep(0)
    assert len(server.loads) > 50


async def test_new_key_is_found_after_the_pause_and_an_old_one_is_dropped(server: Server) -> None:
    keys = KeySet(server.load)
    assert await found(keys, "rsa")
    version = keys.version
    server.keys = [EC]
    assert not await found(keys, "ec")
    server.now += 31
    assert await found(keys, "ec")
    assert not await found(keys, "rsa")
    assert keys.version == version + 1


async def test_removed_key_is_dropped_at_the_next_refresh(server: Server) -> None:
    keys = KeySet(server.load)
    server.keys = [RSA, EC]
    assert await found(keys, "ec")
    server.keys = [RSA]
    server.now += 601
    # This request finds the key that is loaded, and begins to load again.
    assert await found(keys, "ec")
    await asyncio.sleep(0.01)
    assert not await found(keys, "ec")


async def test_token_without_a_key_id_needs_a_set_with_one_key(server: Server) -> None:
    keys = KeySet(server.load)
    assert await found(keys, None)
    server.keys = [RSA, EC]
    server.now += 601
    await found(keys, None)
    await asyncio.sleep(0.01)
    assert not await found(keys, None)
    assert len(server.loads) == 2


async def test_requests_share_one_load(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_set_module, "WAIT_SECONDS", 5)
    keys = KeySet(server.load)
    assert await asyncio.gather(*(found(keys, "rsa") for _ in range(50))) == [True] * 50
    assert len(server.loads) == 1


async def test_bug_while_loading_does_not_end_loading(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    keys = KeySet(server.load)
    server.failure = RuntimeError("a bug")
    assert not await found(keys, "rsa")
    assert "a bug in the gateway" in caplog.text
    server.failure = None
    server.now += 31
    assert await found(keys, "rsa")


# Files and settings


async def test_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    with pytest.raises(KeySetUnavailable, match="cannot be read"):
        await load_file(file)
    file.write_bytes(b" " * 200_000)
    with pytest.raises(KeySetUnavailable, match="larger than 65536 bytes"):
        parse_key_set(await load_file(file))


def parse(jwt: Any, callers: Any = None) -> None:
    accounts = {"outreach": {"provider": "sonarly", "api_key": "key"}}
    caller = {"web-team": {"accounts": "*", "may": ["read"]}}
    parse_settings(
        {"accounts": accounts, "callers": caller if callers is None else callers, "jwt": jwt}, {}
    )


WRONG_SECTIONS = [
    (
        {"jwks_url": "http://login.example.com/keys"},
        'jwt.jwks_url: an attacker on the network could replace the keys; use "https://"',
    ),
    (
        {"jwks_url": "file:///etc/keys"},
        'jwt.jwks_url: is not a plain web address; write it as "https://host/path"',
    ),
    (
        {"jwks_url": "https://user:password@host/keys"},
        "jwt.jwks_url: has a user or a password; remove them, because a key set is public",
    ),
    (
        {"jwks_url": "https://host/keys#x"},
        'jwt.jwks_url: is not a plain web address; write it as "https://host/path"',
    ),
    (
        {"jwks_url": "https://host/keys\n"},
        'jwt.jwks_url: is not a plain web address; write it as "https://host/path"',
    ),
    ({"jwks_url": None}, "jwt: set either jwks_url or jwks"),
    (
        {"jwks": {"file": "/no/such/file"}},
        "jwt.jwks.file: file /no/such/file cannot be read (FileNotFoundError)",
    ),
    ({"audience": None}, "jwt.audience: Input should be a valid string"),
    ({"isuer": "x"}, "jwt.isuer: unknown setting; did you mean issuer?"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_SECTIONS)
def test_wrong_settings_of_tokens_are_errors(changes: dict[str, Any], message: str) -> None:
    section = {"issuer": "i", "audience": "a", "jwks_url": "https://host/keys", **changes}
    with pytest.raises(SettingsError) as raised:
        parse(section)
    assert raised.value.errors == [message]


def test_tokens_need_a_caller(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="jwt: no caller is configured"):
        parse({"issuer": "i", "audience": "a", "jwks_url": "https://host/keys?p=x"}, {})
