"""Files that others could read, addresses that no provider has, and secrets in the log."""

import asyncio
import logging
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from campaign_gateway import cli
from campaign_gateway.accounts.transport.client import Transport
from campaign_gateway.accounts.transport.errors import NoResponse, NotSent
from campaign_gateway.accounts.transport.redaction import create_redactor
from campaign_gateway.connectors import addresses
from campaign_gateway.connectors.addresses import is_forbidden
from campaign_gateway.connectors.contract import ProviderRequest
from campaign_gateway.ledger import open_ledger
from campaign_gateway.observe.health import account_health
from campaign_gateway.observe.log import FORMATTERS, JsonFormatter
from campaign_gateway.sandbox.contract_suite.calling import free_permit
from campaign_gateway.settings import SettingsError, load_settings, parse_settings

SECRET = "sk_live_51HXf0XQz7"


def modes(folder: Path) -> dict[str, str]:
    return {file.name: f"{stat.S_IMODE(file.stat().st_mode):04o}" for file in folder.iterdir()}


PRIVATE = {f"ledger.db{ending}": "0600" for ending in ("", "-wal", "-shm", "-lock")}


# Files


async def test_only_the_user_of_the_gateway_can_read_the_ledger(tmp_path: Path) -> None:
    ledger = await open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    await ledger.check()
    assert modes(tmp_path) == PRIVATE
    await ledger.close()


async def test_ledger_that_others_could_read_is_made_private(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    await (await open_ledger(url)).close()
    (tmp_path / "ledger.db-wal").touch()
    for name in modes(tmp_path):
        (tmp_path / name).chmod(0o644)
    ledger = await open_ledger(url)
    await ledger.check()
    assert modes(tmp_path) == PRIVATE
    assert caplog.text.count("0644") >= 3
    # An operator's command leaves them alone.
    (tmp_path / "ledger.db").chmod(0o640)
    operator = await open_ledger(url, as_operator=True)
    assert modes(tmp_path)["ledger.db"] == "0640"
    await operator.close()
    await ledger.close()


@pytest.mark.parametrize(
    ("lines", "mode", "is_warned"),
    [
        (f'api_key = "{SECRET}"', 0o644, True),
        (f'api_key = "{SECRET}"', 0o604, True),
        (f'api_key = "{SECRET}"', 0o640, False),
        (f'api_key = "{SECRET}"', 0o600, False),
        ('api_key = { env = "HOSTILE_KEY" }', 0o644, False),
        ('api_key = { env = "HOSTILE_KEY" }\n[ledger]\nurl = "postgresql://u:p@h/d"', 0o644, True),
    ],
)
def test_configuration_with_secrets_that_everybody_can_read_gets_a_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    lines: str,
    mode: int,
    *,
    is_warned: bool,
) -> None:
    monkeypatch.setenv("HOSTILE_KEY", SECRET)
    path = tmp_path / "gateway.toml"
    path.write_text(f'[accounts.a]\nprovider = "sonarly"\n{lines}\n')
    path.chmod(mode)
    load_settings(path)
    assert (caplog.text.count("every user of this machine can read it") == 1) is is_warned
    assert SECRET not in caplog.text


# Addresses


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.0.1",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[::ffff:0:169.254.169.254]",
        "[::169.254.169.254]",
        "[2002:a9fe:a9fe::1]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "2852039166",
        "0xA9FEA9FE",
        "0251.0376.0251.0376",
        "169.254.43518",
        "169.254.169.254.",
    ],
)
def test_base_url_with_a_link_local_or_metadata_address_is_refused_at_the_start(host: str) -> None:
    (error,) = errors_of(f"https://{host}")
    assert "link-local or metadata" in error


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.0.0.1", "192.168.1.1", "[::1]", "[2001:db8::1]", "8.8.8.8", "168.63.1.1"],
)
def test_other_addresses_are_accepted(host: str) -> None:
    assert errors_of(f"https://{host}") == []


@pytest.mark.parametrize("character", ["\n", "\t", "\r", "\x00", " ", "\u00e9", "\u200b"])
@pytest.mark.parametrize(
    "place", ["https://a.example{}", "{}https://a.example", "https://a.ex{}ample/x"]
)
def test_base_url_with_a_stray_character_is_refused_at_the_start(
    place: str, character: str
) -> None:
    (error,) = errors_of(place.format(character))
    assert error.startswith("accounts.a.base_url: ")
    assert "remove it" in error


def errors_of(url: str) -> list[str]:
    account = {"provider": "sonarly", "api_key": "key", "base_url": url}
    try:
        parse_settings({"accounts": {"a": account}}, {})
    except SettingsError as refused:
        return refused.errors
    return []


class Connected:
    """Counts the connections, and the bytes that arrive on them."""

    def __init__(self) -> None:
        self.ended = 0
        self.received = b""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.received += await reader.read(100)
        writer.close()
        await writer.wait_closed()
        self.ended += 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_address_is_refused_after_resolving_and_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, host: str, scheme: str
) -> None:
    """Here loopback is the address of a cloud's metadata, which a name of a provider may get."""
    monkeypatch.setattr(addresses, "METADATA", {ip_address("127.0.0.1")})
    recorded = 0

    async def record() -> None:
        nonlocal recorded
        recorded += 1

    peer = Connected()
    server = await asyncio.start_server(peer.handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    request = ProviderRequest("POST", f"{scheme}://{host}:{port}/copy", {"authorization": SECRET})
    transport = Transport([SECRET], 5, health=account_health("tried", "sonarly", 60))
    async with server:
        with pytest.raises(NotSent, match="link-local or metadata address"):
            await transport.send_once(request, free_permit(), record)
        with pytest.raises(NoResponse, match="link-local or metadata address"):
            await transport.send_idempotent(request, free_permit())
        while peer.ended < 2:
            await asyncio.sleep(0.01)
    await transport.close()
    assert (recorded, peer.received) == (0, b"")
    assert f"metadata address 127.0.0.1 ({host}:{port})" in caplog.text


def test_address_of_a_socket_may_name_its_interface() -> None:
    assert is_forbidden("fe80::1%eth0")
    assert not is_forbidden("metadata.google.internal")


# The log


@contextmanager
def logged(formatter: logging.Formatter) -> Iterator[list[str]]:
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Handler()
    handler.setFormatter(formatter)
    logger = logging.getLogger("hostile")
    logger.addHandler(handler)
    # pytest would send a lone surrogate to another process, which fails.
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.propagate = True
        logger.removeHandler(handler)


def fail_with(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("hostile").exception("an internal error")


every_format = pytest.mark.parametrize("formatter_type", FORMATTERS.values(), ids=FORMATTERS)


@pytest.mark.parametrize(
    "text",
    [
        f"Illegal header value b'Bearer {SECRET} '",
        f"{{'x-secret': '{SECRET}'}}",
        f"https://a.example/?key={SECRET}&x=1",
        SECRET.replace("_", "\\u005f"),
        SECRET.replace("_", "%5F"),
    ],
)
@every_format
def test_configured_secret_in_the_text_of_an_exception_is_not_logged(
    text: str, formatter_type: type[JsonFormatter]
) -> None:
    formatter = formatter_type()
    formatter.redact = create_redactor([SECRET])
    with logged(formatter) as lines:
        fail_with(text)
    (entry,) = lines
    assert "Traceback" in entry
    assert "[redacted]" in entry
    assert "51HXf0XQz7" not in entry


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer TOKEN",
        "{'authorization': 'Bearer TOKEN', 'accept': '*/*'}",
        "[(b'Authorization', b'TOKEN'), (b'accept', b'*/*')]",
        "headers=Headers({'x-api-key': 'TOKEN'})",
        "Illegal header value b'Basic TOKEN'",
        "https://a.example/identity?client_secret=TOKEN&grant_type=x",
        '{"access_token":"TOKEN","expires_in":3600}',
        "Cookie: TOKEN",
    ],
)
@every_format
def test_credentials_that_are_in_no_configuration_are_not_logged(
    text: str, formatter_type: type[JsonFormatter]
) -> None:
    token = "eyJhbGciOi.J9_x-y~z+/="
    with logged(formatter_type()) as lines:
        fail_with(text.replace("TOKEN", token))
    (entry,) = lines
    assert "[redacted]" in entry
    assert "eyJhbGciOi" not in entry


@every_format
def test_ordinary_entries_are_logged_as_they_are(formatter_type: type[JsonFormatter]) -> None:
    texts = [
        "listening on 127.0.0.1 port 8000",
        "no TLS connection to a.example: basic",
    ]
    with logged(formatter_type()) as lines:
        for text in texts:
            logging.getLogger("hostile").error(text)
    assert all(text in line for text, line in zip(texts, lines, strict=True))


def test_serve_removes_the_secrets_of_its_configuration_from_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(
        f'[ledger]\nurl = "postgresql://user:pa%24s-word-9@db.example/d"\n'
        f'[accounts.a]\nprovider = "sonarly"\napi_key = "{SECRET}"\n'
    )

    async def serve(*_: object) -> None:
        fail_with(f"{SECRET} and pa$s-word-9 and pa%24s-word-9")

    # pytest has handlers of its own at the root, and `log_to_stderr` leaves a configured log alone.
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(cli, "_serve_until_stopped", serve)
    monkeypatch.setattr("sys.argv", ["campaign-gateway", "serve", "--config", str(path)])
    cli.main()
    shown = capfd.readouterr().err
    assert shown.count("[redacted] and [redacted] and [redacted]") >= 1
    assert SECRET not in shown
    assert "s-word-9" not in shown
