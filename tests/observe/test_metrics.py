"""The metrics of a running gateway, as Prometheus and an operator read them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from campaign_gateway.cli import _serve_until_stopped
from campaign_gateway.observe import metrics
from campaign_gateway.sandbox.emulators import sonarly
from campaign_gateway.settings import MetricsSettings, SettingsError, parse_settings
from campaign_gateway.web.server.server import CannotListen
from support.metered_gateway import Gateway, metered_gateway
from support.prometheus import wait_until

ACCOUNTS = {"accounts": {"good": {"provider": "sonarly", "api_key": "key"}}}


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., str]
) -> Iterator[Gateway]:
    provider = serve(sonarly.create_emulator())
    with metered_gateway(tmp_path_factory.mktemp("metrics"), provider) as running:
        yield running


# What is counted


def test_outcomes_calls_and_commits_are_counted(gateway: Gateway) -> None:
    assert gateway.copy("good")["status"] == "CREATED"
    assert gateway.copy("good", "rate-limited")["status"] == "REJECTED"
    assert gateway.copy("wrong-key")["status"] == "REJECTED"
    account = {"provider": "sonarly", "account": "good"}
    made = {**account, "status": "CREATED", "evidence": "RESPONSE"}
    assert gateway.value("campaign_gateway_duplications_total", **made) == 1
    refused = {"account": "wrong-key", "code": "AUTHENTICATION_FAILED"}
    assert gateway.value("campaign_gateway_errors_total", **refused) == 1
    calls = "campaign_gateway_provider_call_duration_seconds_count"
    for outcome, number in {"success": 1, "rate_limited": 1, "unauthorized": 0}.items():
        assert gateway.value(calls, **account, call="copy", outcome=outcome) == number
    assert gateway.value(calls, account="wrong-key", call="copy", outcome="unauthorized") == 1
    # Two writes a copy, each in a commit of its own as the copies came one after the other.
    assert gateway.value("campaign_gateway_ledger_commit_writes_sum") >= 6
    assert gateway.value("campaign_gateway_ledger_commit_duration_seconds_count") >= 6


def test_copy_whose_response_is_lost_is_shown_as_unknown_and_then_as_found(
    gateway: Gateway,
) -> None:
    assert gateway.copy("good", "cut-after-copy")["status"] == "UNKNOWN"
    unknown = {"account": "good", "status": "UNKNOWN", "evidence": "NONE"}
    assert gateway.value("campaign_gateway_duplications_total", **unknown) == 1
    found = {"account": "good", "status": "CREATED", "evidence": "INFERRED"}
    wait_until(lambda: gateway.value("campaign_gateway_duplications_total", **found) == 1)
    checks = {"account": "good", "result": "done"}
    assert gateway.value("campaign_gateway_checks_total", **checks) >= 1
    name = "campaign_gateway_unsettled"
    wait_until(lambda: gateway.value(name, account="good", status="UNKNOWN") == 0)


def test_requests_that_are_refused_at_the_door_are_counted(gateway: Gateway) -> None:
    name, before = "campaign_gateway_caller_refusals_total", gateway.read()
    public = gateway.public
    statuses = [
        public.get("/", headers={"host": "elsewhere.example.com"}).status_code,
        public.post("/graphql", json={"query": "{ nonsense }"}).status_code,
        public.post("/graphql", json={"query": "x" * 3_000_000}).status_code,
        public.put("/graphql").status_code,
        public.get("/", headers={"x-long": "x" * 40_000}).status_code,
    ]
    assert statuses == [421, 200, 413, 405, 431]
    key = f'{name}{{code="INVALID_REQUEST"}}'
    assert gateway.read()[key] - before.get(key, 0) == len(statuses)


@pytest.mark.parametrize("number", [15, pytest.param(10_000, marks=pytest.mark.long)])
def test_hostile_mutations_are_counted_and_make_no_series(gateway: Gateway, number: int) -> None:
    gateway.copy("good", "not-found")
    gateway.copy("no-such-account")
    known = gateway.read()
    for index in range(number):
        gateway.copy(f'no-such-account"{index}\n')
        gateway.copy("good", f"hostile{index}")
    shown = gateway.read()
    # The accounts may be checked meanwhile.
    assert {each for each in shown.keys() - known.keys() if 'call="check"' not in each} == set()
    for account, code in (
        (metrics.NOT_CONFIGURED, "UNKNOWN_ACCOUNT"),
        ("good", "CAMPAIGN_NOT_FOUND"),
    ):
        (series,) = (each for each in shown if f'account="{account}",code="{code}"' in each)
        assert shown[series] == known[series] + number
    for text in ("hostile", "no-such-account", sonarly.API_KEY, "sk_live_withdrawn"):
        assert text not in gateway.text()


# Where they are


def test_metrics_have_an_address_of_their_own(gateway: Gateway) -> None:
    assert gateway.metrics.get("/metrics").status_code == 200
    assert gateway.public.get("/metrics").status_code == 404
    for path in ("/", "/graphql", "/graphiql", "/readyz"):
        assert gateway.metrics.get(path).status_code == 404
    assert gateway.metrics.post("/metrics").status_code == 405


def test_page_of_another_site_cannot_read_the_metrics(gateway: Gateway) -> None:
    response = gateway.metrics.get("/metrics", headers={"host": "rebound.example.com"})
    assert response.status_code == 421


def test_metrics_are_off_unless_a_port_is_configured() -> None:
    assert parse_settings(ACCOUNTS, {}).metrics == MetricsSettings()
    assert (MetricsSettings().host, MetricsSettings().port) == ("127.0.0.1", None)
    variable = {"CAMPAIGN_GATEWAY_METRICS__PORT": "9464"}
    assert parse_settings(ACCOUNTS, variable).metrics.port == 9464
    with pytest.raises(SettingsError) as caught:
        parse_settings({**ACCOUNTS, "metrics": {"host": "0.0.0.0"}}, {})
    remedy = "add `port = 9464` to [metrics]"
    assert caught.value.errors == [f"metrics: has a host and no port; {remedy}"]


async def test_port_in_use_is_an_error_that_names_the_setting(
    gateway: Gateway, tmp_path: Path
) -> None:
    port = gateway.metrics.base_url.port
    table = {
        "server": {"port": 0},
        "metrics": {"port": port},
        "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"},
        **ACCOUNTS,
    }
    with pytest.raises(CannotListen) as caught:
        await _serve_until_stopped(parse_settings(table, {}))
    assert str(caught.value).startswith(f"cannot listen on 127.0.0.1 port {port}: ")
    assert str(caught.value).endswith("; choose another port with metrics.port")
