"""Which hosts and origins a request may name, and the headers of every response."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from campaign_gateway.settings import SettingsError, parse_settings
from campaign_gateway.web.server.connections import Connections
from campaign_gateway.web.server.entrance import SECURITY_HEADERS, Entrance, parse_host
from campaign_gateway.web.server.limits import ConnectionLimits
from support.commands import Command, running
from support.correlated import without_id
from support.plain import NO_CAS
from support.raw_http import ANSWER, QUERY, Received, exchange, head, post

JSON = b"Content-Type: application/json"
LENGTH = b"Content-Length: %d" % len(QUERY)


def ask(url: str, *hosts: bytes) -> Received:
    return exchange(url, head(*hosts, JSON, LENGTH) + QUERY)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1:1", "127.9.9.9", "[::1]:80", "[0::1]"],
)
def test_loopback_names_are_allowed(sandbox_url: str, host: str) -> None:
    assert without_id(ask(sandbox_url, b"Host: %b" % host.encode())) == ANSWER


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1.nip.io",
        "evil-localhost",
        "2130706433",
        "0x7f.1",
        "10.0.0.1",
        "169.254.169.254",
        "[fe80::1]",
    ],
)
def test_other_hosts_get_421_and_nothing_is_executed(sandbox_url: str, host: str) -> None:
    refused = ask(sandbox_url, b"Host: %b" % host.encode())
    assert refused.status == 421
    assert "[server] hosts" in refused.message
    assert host not in refused.message


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [b"Host: localhost", b"Host: localhost"],
        [b"Host: localhost", b"Host: evil.example"],
        [b"Host: localhost", b"hOST: localhost"],
        [b"Host:"],
        [b"Host: "],
        [b"Host: localhost, evil.example"],
        [b"Host: user@localhost"],
        [b"Host: localhost/"],
        [b"Host: http://localhost"],
        [b"Host: local host"],
        [b"Host: localhost:"],
        [b"Host: localhost:80a"],
        [b"Host: localhost:800000"],
        [b"Host: ::1"],
        [b"Host: [::1"],
        [b"Host: \xc3\xa9"],
    ],
)
def test_request_without_exactly_one_valid_host_is_400(
    sandbox_url: str, hosts: list[bytes]
) -> None:
    refused = ask(sandbox_url, *hosts)
    # A port may be empty (RFC 3986, section 3.2.3).
    assert refused.status == (200 if hosts == [b"Host: localhost:"] else 400)


def test_probe_of_a_load_balancer_needs_no_known_host(sandbox_url: str) -> None:
    for path in (b"/healthz", b"/readyz"):
        by_address = head(b"Host: 10.1.2.3:8000", target=path, method=b"GET")
        assert exchange(sandbox_url, by_address).status == 200
        assert exchange(sandbox_url, b"GET %b HTTP/1.0\r\n\r\n" % path).status == 200
    assert exchange(sandbox_url, b"GET /graphiql HTTP/1.0\r\n\r\n").status == 400
    elsewhere = head(b"Host: 10.1.2.3:8000", target=b"/healthz/", method=b"GET")
    assert exchange(sandbox_url, elsewhere).status == 421


def test_accounts_are_named_only_to_a_known_host(sandbox_url: str) -> None:
    """Otherwise a page that gives its own name the gateway's address could read them."""
    for query in (b"?accounts", b"?accounts=", b"?x&%61ccounts"):
        rebound = head(b"Host: evil.example", target=b"/readyz" + query, method=b"GET")
        assert exchange(sandbox_url, rebound).status == 421
        hostless = b"GET /readyz%b HTTP/1.0\r\n\r\n" % query
        assert exchange(sandbox_url, hostless).status == 400
    known = head(b"Host: localhost", target=b"/readyz?accounts", method=b"GET")
    assert exchange(sandbox_url, known).status == 200


async def test_address_that_the_connection_came_to_is_allowed() -> None:
    async def statuses(host: bytes, local: str) -> int:
        sent: list[Any] = []

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "http_version": "1.1",
            "path": "/graphql",
            "query_string": b"",
            "headers": [(b"host", host)],
            "server": (local, 8000),
        }
        receive: Any = None
        connections = Connections(ConnectionLimits())
        await Entrance(app, ["gateway.example.com"], connections)(scope, receive, send)
        return int(sent[0]["status"])

    assert await statuses(b"10.1.2.3:8000", "10.1.2.3") == 200
    assert await statuses(b"[2001:DB8::0:1]", "2001:db8::1") == 200
    assert await statuses(b"10.1.2.4:8000", "10.1.2.3") == 421
    assert await statuses(b"Gateway.Example.Com:443", "10.1.2.3") == 200
    assert await statuses(b"www.gateway.example.com", "10.1.2.3") == 421


def test_long_host_is_parsed_in_linear_time() -> None:
    assert parse_host(b"a." * 15_000 + b"!") is None


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A gateway with names and origins of its own."""
    folder = tmp_path_factory.mktemp("hosts")
    with running("serve", "--config", str(configuration(folder))) as command:
        yield base_url(command)


def configuration(folder: Path) -> Path:
    path = folder / "gateway.toml"
    path.write_text(
        f"""
        [server]
        port = 0
        hosts = ["Gateway.example.com", "::ffff:10.0.0.9"]
        cors_origins = ["https://app.example.com"]
        [ledger]
        url = "sqlite:///{folder}/ledger.db"
        [accounts.outreach]
        provider = "sonarly"
        api_key = "key"
        """
    )
    return path


def base_url(command: Command) -> str:
    port = command.wait_for(r"listening on \S+ port (\d+)")[1]
    return f"http://127.0.0.1:{port}"


def test_configured_hosts_are_allowed(serving: str) -> None:
    for host in (b"gateway.example.com", b"gateway.EXAMPLE.com:443", b"localhost"):
        assert without_id(ask(serving, b"Host: %b" % host)) == ANSWER
    assert ask(serving, b"Host: app.example.com").status == 421


def preflight(url: str, origin: str) -> httpx.Response:
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    return httpx.options(f"{url}/graphql", headers=headers, trust_env=False, verify=NO_CAS)


def test_only_configured_origins_may_use_the_gateway(serving: str) -> None:
    allowed = preflight(serving, "https://app.example.com")
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "access-control-allow-credentials" not in allowed.headers
    for origin in (
        "https://evil.example",
        "http://app.example.com",
        "https://app.example.com.evil.example",
        "https://app.example.com:8443",
        "http://localhost:3000",
        "null",
    ):
        refused = preflight(serving, origin)
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers
        read = exchange(serving, post(QUERY, b"Origin: %b" % origin.encode()))
        assert "access-control-allow-origin" not in read.headers


SENT = {
    "no HTTP": b"nonsense\r\n\r\n",
    "query": post(),
    "no JSON": post(b"{"),
    "foreign host": head(b"Host: evil.example"),
    "no host": head(),
    "not found": head(b"Host: localhost", target=b"/x", method=b"GET"),
    "method": head(b"Host: localhost", target=b"/", method=b"DELETE"),
    "root": head(b"Host: localhost", target=b"/", method=b"GET"),
    "GraphiQL": head(b"Host: localhost", target=b"/graphiql", method=b"GET"),
    "examples": head(b"Host: localhost", target=b"/graphiql/examples.json", method=b"GET"),
    "readyz": head(b"Host: localhost", target=b"/readyz", method=b"GET"),
    "preflight": head(b"Host: localhost", b"Origin: http://localhost", method=b"OPTIONS"),
}


@pytest.mark.parametrize("name", SENT)
def test_every_response_has_the_security_headers(sandbox_url: str, serving: str, name: str) -> None:
    for url in (sandbox_url, serving):
        headers = exchange(url, SENT[name]).headers
        for expected, value in SECURITY_HEADERS:
            shown = headers[expected.decode()]
            if expected == b"content-security-policy" and name in {"GraphiQL", "examples"}:
                assert "frame-ancestors 'none'" in shown
                assert "script-src 'self'" in shown
            elif expected == b"content-security-policy" and name == "root":
                assert "default-src 'none'" in shown
                assert "frame-ancestors 'none'" in shown
            else:
                assert shown == value.decode()


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_get_with_a_content_type_that_needs_no_preflight_is_415(
    sandbox_url: str, content_type: str
) -> None:
    field = b"Content-Type: %b" % content_type.encode()
    target = b"/graphql?query=%7B__typename%7D"
    refused = exchange(sandbox_url, head(b"Host: localhost", field, target=target, method=b"GET"))
    assert refused.status == 415
    for fields in ([], [b"Content-Type: application/json; charset=utf-8"]):
        read = exchange(
            sandbox_url, head(b"Host: localhost", *fields, target=target, method=b"GET")
        )
        assert without_id(read) == ANSWER


@pytest.mark.parametrize(
    ("sender", "status"), [("cross-site", 403), ("same-site", 200), ("same-origin", 200)]
)
def test_get_from_a_page_of_another_site_executes_nothing(
    sandbox_url: str, sender: str, status: int
) -> None:
    field = b"Sec-Fetch-Site: %b" % sender.encode()
    target = b"/graphql?query=%7B__typename%7D"
    response = exchange(sandbox_url, head(b"Host: localhost", field, target=target, method=b"GET"))
    assert response.status == status
    assert ("data" in response.json()) == (status == 200)


ACCOUNTS = {"a": {"provider": "sonarly", "api_key": "key"}}


@pytest.mark.parametrize(
    ("setting", "values", "remedy"),
    [
        ("hosts", ["http://a.example"], "gateway.example.com"),
        ("hosts", ["a.example:80"], "gateway.example.com"),
        ("hosts", ["*"], "gateway.example.com"),
        ("hosts", [""], "gateway.example.com"),
        ("cors_origins", ["*"], "https://app.example.com"),
        ("cors_origins", ["null"], "https://app.example.com"),
        ("cors_origins", ["https://app.example.com/"], "https://app.example.com"),
        ("cors_origins", ["app.example.com"], "https://app.example.com"),
    ],
)
def test_host_or_origin_in_another_form_is_refused_at_the_start(
    setting: str, values: list[str], remedy: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_settings({"server": {setting: values}, "accounts": ACCOUNTS}, {})
    (error,) = refused.value.errors
    assert error.startswith(f"server.{setting}.0: ")
    assert remedy in error


def test_environment_lists_hosts_with_commas() -> None:
    environment = {"CAMPAIGN_GATEWAY_SERVER__HOSTS": "a.example, b.example"}
    settings = parse_settings({"accounts": ACCOUNTS}, environment)
    assert settings.server.hosts == ["a.example", "b.example"]
