"""Which certificates are trusted, and the message if TLS fails."""

import asyncio
import hashlib
import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from campaign_gateway.accounts.transport.client import Transport
from campaign_gateway.accounts.transport.errors import NoResponse, NotSent
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse
from campaign_gateway.observe.health import account_health
from campaign_gateway.sandbox.contract_suite.calling import free_permit
from campaign_gateway.settings import SettingsError, parse_settings
from support.gateways import ask, calling, configuration, intents, recorded, serving

SECRET = "sk_live_behind-tls-12345"

NOT_ACCEPTED = "the provider's TLS certificate is not accepted: "
NO_ISSUER = f"{NOT_ACCEPTED}unable to get local issuer certificate"


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> str:
    path = str(tmp_path / "ca.pem")
    ca.cert_pem.write_to_path(path)
    return path


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)


@dataclass
class TlsProvider:
    """Responds like Sonarly. `requests` counts the copies requested after a TLS handshake."""

    url: str = ""
    handshakes: int = 0
    requests: int = 0

    def greet(self, *_: object) -> None:
        self.handshakes += 1

    async def respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        # The gateway's check of the account is a GET.
        self.requests += head.startswith(b"POST")
        data = {"id": "0" * 24, "name": "a copy", "status": "draft"}
        body = json.dumps({"success": True, "data": data, "traceId": "t1"}).encode()
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()


@asynccontextmanager
async def tls_provider(certificate: trustme.LeafCert) -> AsyncIterator[TlsProvider]:
    provider = TlsProvider()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    context.sni_callback = provider.greet
    server = await asyncio.start_server(provider.respond, "127.0.0.1", 0, ssl=context)
    async with server:
        provider.url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        yield provider


async def nothing_to_record() -> None: ...


async def send(url: str, ca_file: str | None = None) -> ProviderResponse:
    transport = Transport([SECRET], 5, ca_file, health=account_health("tried", "sonarly", 60))
    try:
        return await transport.send_once(
            ProviderRequest("POST", url, {}, b"{}"), free_permit(), nothing_to_record
        )
    finally:
        await transport.close()


async def failure(url: str, ca_file: str | None = None) -> str:
    with pytest.raises(NotSent) as raised:
        await send(url, ca_file)
    return str(raised.value)


async def test_private_ca_of_the_setting_is_trusted(ca: trustme.CA, ca_file: str) -> None:
    async with tls_provider(ca.issue_cert("localhost")) as provider:
        assert (await send(provider.url, ca_file)).status == 201


async def test_private_ca_of_ssl_cert_file_is_trusted(
    ca: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    async with tls_provider(ca.issue_cert("localhost")) as provider:
        assert (await send(provider.url)).status == 201


async def test_private_ca_of_ssl_cert_dir_is_trusted(
    ca: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OpenSSL looks for a file whose name is a hash of the CA's name in lower case.
    subject = x509.load_pem_x509_certificate(ca.cert_pem.bytes()).subject
    lowered = x509.Name(x509.NameAttribute(name.oid, name.value.lower()) for name in subject)
    digest = hashlib.sha1(lowered.public_bytes()[2:]).digest()
    ca.cert_pem.write_to_path(str(tmp_path / f"{digest[3::-1].hex()}.0"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    async with tls_provider(ca.issue_cert("localhost")) as provider:
        assert (await send(provider.url)).status == 201


async def test_setting_replaces_the_cas_of_the_environment(
    ca: trustme.CA, ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = trustme.CA()
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    async with tls_provider(ca.issue_cert("localhost")) as provider:
        assert (await send(provider.url, ca_file)).status == 201
    async with tls_provider(other.issue_cert("localhost")) as provider:
        assert await failure(provider.url, ca_file) == NO_ISSUER


async def test_proxies_of_the_environment_are_ignored(
    ca: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with tls_provider(ca.issue_cert("localhost")) as provider:
        assert (await send(provider.url)).status == 201


async def test_invalid_certificate_is_explained_and_tried_once(
    ca: trustme.CA, ca_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    expired = datetime.now(UTC) - timedelta(days=1)
    cases = {
        NO_ISSUER: (ca.issue_cert("localhost"), None),
        f"{NOT_ACCEPTED}Hostname mismatch": (ca.issue_cert("other.example"), ca_file),
        f"{NOT_ACCEPTED}certificate has expired": (
            ca.issue_cert("localhost", not_before=expired - timedelta(1), not_after=expired),
            ca_file,
        ),
    }
    for expected, (certificate, trusted) in cases.items():
        caplog.clear()
        async with tls_provider(certificate) as provider:
            assert await failure(provider.url, trusted) == expected
            assert (provider.handshakes, provider.requests) == (1, 0)
        (line,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        host = provider.url.removeprefix("https://")
        assert line.getMessage().endswith(f"cannot be reached: {expected} ({host})")


async def test_self_signed_certificate_is_explained(ca: trustme.CA) -> None:
    # A CA's own certificate, used as the certificate of a host.
    certificate = trustme.LeafCert(ca.private_key_pem.bytes(), ca.cert_pem.bytes(), chain_to_ca=[])
    async with tls_provider(certificate) as provider:
        assert await failure(provider.url) == f"{NOT_ACCEPTED}self-signed certificate"


async def test_host_without_tls_is_explained() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        # The rest of the message depends on the version of the TLS library.
        assert (await failure(url)).startswith("TLS failed: ")


async def test_connection_closed_during_the_handshake_is_no_tls_failure() -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await failure(url) == "no connection"


async def test_data_before_tls_ends_the_connection(ca: trustme.CA, ca_file: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    received = b""

    async def inject(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        with suppress(OSError, asyncio.IncompleteReadError):
            await writer.start_tls(context)
            received += await reader.read(1)
        writer.close()

    server = await asyncio.start_server(inject, "127.0.0.1", 0)
    async with server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        reason = await failure(url, ca_file)
    assert reason == "no connection" or reason.startswith("TLS failed: ")
    assert received == b""


async def test_idempotent_request_explains_the_tls_failure(ca: trustme.CA) -> None:
    async with tls_provider(ca.issue_cert("localhost")) as provider:
        transport = Transport([SECRET], 5, health=account_health("tried", "sonarly", 60))
        with pytest.raises(NoResponse, match=NO_ISSUER):
            await transport.send_idempotent(ProviderRequest("GET", provider.url, {}), free_permit())
        await transport.close()


@pytest.mark.parametrize("trusted", ["setting", "environment", "nothing"])
async def test_gateway_needs_the_private_ca_of_its_provider(
    ca: trustme.CA, ca_file: str, tmp_path: Path, trusted: str
) -> None:
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    async with tls_provider(ca.issue_cert("localhost")) as provider, calling() as http:
        config = configuration(tmp_path, ledger, {"main": provider.url}, timeout=5)
        if trusted == "setting":
            config.write_text(f'{config.read_text("utf-8")}ca_file = "{ca_file}"\n', "utf-8")
        environment = {"SSL_CERT_FILE": ca_file} if trusted == "environment" else {}
        async with serving(config, environment=environment) as gateway:
            (wanted,) = intents(["none"])
            response = await ask(http, gateway.url, wanted)
            assert response is not None
            output = gateway.output()
            keys = await recorded(ledger)
    if trusted != "nothing":
        assert (response.status, response.evidence) == ("CREATED", "RESPONSE")
        assert provider.requests == 1
        return
    assert (response.status, response.code, response.retry) == (
        "NOT_SENT",
        "PROVIDER_UNAVAILABLE",
        "SAME_KEY",
    )
    assert response.message is not None
    assert f"Sonarly could not be reached ({NO_ISSUER})" in response.message
    assert f"{NO_ISSUER} ({provider.url.removeprefix('https://')})" in output
    assert (provider.requests, len(keys)) == (0, 0)


def settings_error(account: dict[str, str]) -> str:
    table = {"provider": "sonarly", "api_key": SECRET, **account}
    with pytest.raises(SettingsError) as raised:
        parse_settings({"accounts": {"cdp": table}}, {})
    (error,) = raised.value.errors
    assert SECRET not in error
    return error


def test_ca_file_is_checked_at_start(
    ca: trustme.CA, ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing, key = tmp_path / "missing.pem", tmp_path / "key.pem"
    key.write_bytes(ca.private_key_pem.bytes())
    for path, why in {
        missing: "cannot be read (FileNotFoundError)",
        tmp_path: "cannot be read (IsADirectoryError)",
        key: "has no certificate in PEM format",
    }.items():
        error = settings_error({"ca_file": str(path)})
        assert error == f"accounts.cdp.ca_file: file {path} {why}"
    monkeypatch.setenv("SSL_CERT_DIR", str(missing))
    where = "accounts.cdp: SSL_CERT_DIR of the environment"
    assert settings_error({}) == f"{where}: {missing} is not a folder"
    monkeypatch.setenv("SSL_CERT_FILE", str(key))
    where = "accounts.cdp: SSL_CERT_FILE of the environment"
    assert settings_error({}) == f"{where}: file {key} has no certificate in PEM format"
    # With the setting, the files of the environment are not used and need not exist.
    table = {"provider": "sonarly", "api_key": SECRET, "ca_file": ca_file}
    assert parse_settings({"accounts": {"cdp": table}}, {}).accounts["cdp"].ca_file == ca_file
