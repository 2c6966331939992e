"""The metrics, the alert rules and the dashboard, tried with a real Prometheus."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from campaign_gateway import cli, observe
from campaign_gateway.observe import state
from campaign_gateway.observe.registry import REGISTRY
from campaign_gateway.sandbox.emulators import sonarly
from support.metered_gateway import Gateway, metered_gateway
from support.prometheus import Prometheus, promtool, running_prometheus, wait_until

ALERTS = (resources.files(observe) / "alerts.yml").read_text("utf-8")
DASHBOARD = (resources.files(observe) / "dashboard.json").read_text("utf-8")
NAMES = re.findall(r"alert: (\w+)", ALERTS)

# promtool compares the texts too, and they change more often than the rules.
ANNOTATIONS = re.compile(r"        annotations:\n(?: {10}.*\n)+")

EXPRESSION = re.compile(r"expr: (?:>-\n(?: {10}.*\n)+|.*\n)")


def names_of_metrics() -> set[str]:
    """Return the names of all series that a gateway can have, without their labels."""
    assert state.UNSETTLED
    text = generate_latest(REGISTRY).decode()
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE):
        endings = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        names |= {name + ending for ending in endings}
    return names


def expressions_of_dashboard() -> list[str]:
    panels = json.loads(DASHBOARD)["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


@pytest.mark.parametrize("text", [ALERTS, DASHBOARD], ids=["alerts", "dashboard"])
def test_every_metric_that_is_named_exists(text: str) -> None:
    named = set(re.findall(r"\b(?:campaign_gateway|process)_\w+", text))
    assert len(named) >= 10
    assert named - names_of_metrics() == set()


@pytest.mark.parametrize(("command", "text"), [("alerts", ALERTS), ("dashboard", DASHBOARD)])
def test_command_prints_the_file(
    command: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["campaign-gateway", command])
    cli.main()
    assert capsys.readouterr().out == text


def test_alert_rules_are_valid(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(ALERTS)
    assert f"{len(NAMES)} rules found" in promtool("check", "rules", "alerts.yml", folder=tmp_path)


def test_each_alert_fires_on_its_problem_and_none_on_a_gateway_that_works(tmp_path: Path) -> None:
    cases = Path(__file__).with_name("alerts_test.yml").read_text("utf-8")
    fired = re.findall(r"alertname: (\w+)\n +exp_alerts: \[\{", cases)
    assert set(fired) == set(NAMES)
    (tmp_path / "alerts.yml").write_text(ANNOTATIONS.sub("", ALERTS))
    (tmp_path / "alerts_test.yml").write_text(cases)
    promtool("test", "rules", "alerts_test.yml", folder=tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prometheus")


@pytest.fixture(scope="module")
def gateway(folder: Path, serve: Callable[..., str]) -> Iterator[Gateway]:
    with metered_gateway(folder, serve(sonarly.create_emulator())) as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(folder: Path, gateway: Gateway) -> Iterator[Prometheus]:
    """Evaluates the alert rules as they are shipped, but fires without a delay.

    A second copy of each rule always fires, under another name.
    """
    rules = re.sub(r"for: \w+", "for: 0s", ALERTS)
    _, header, groups = rules.partition("groups:\n")
    texts = EXPRESSION.sub("expr: vector(1000)\n", groups)
    texts = texts.replace("alert: ", "alert: Text").replace("name: ", "name: texts-of-")
    rules = header + groups + texts
    target = f"127.0.0.1:{gateway.metrics.base_url.port}"
    with running_prometheus(folder, target, rules) as running:
        wait_until(lambda: value_of(running, 'up{job="campaign-gateway"}') == ["1"])
        yield running


def value_of(prometheus: Prometheus, query: str) -> list[str]:
    return [sample["value"][1] for sample in prometheus.get("query", query=query)["result"]]


def finds_series(prometheus: Prometheus, query: str) -> bool:
    return value_of(prometheus, query) != []


def test_metrics_follow_the_habits_of_prometheus(gateway: Gateway) -> None:
    gateway.copy("good")
    assert promtool("check", "metrics", text=gateway.text()) == ""


def test_every_query_of_the_dashboard_is_valid_and_finds_series(
    gateway: Gateway, prometheus: Prometheus
) -> None:
    gateway.copy("good")
    queries = expressions_of_dashboard()
    assert len(queries) > 15
    for written in queries:
        query = written.replace("$__rate_interval", "1m").replace("$account", ".*")
        prometheus.get("query", query=query)
        # Some conditions hide what is zero. A rate needs two scrapes.
        wait_until(partial(finds_series, prometheus, query.removesuffix(" > 0")))


def test_texts_of_the_alerts_have_no_errors(prometheus: Prometheus) -> None:
    wait_until(lambda: len(prometheus.firing("Text")) == len(NAMES))
    for alert in prometheus.firing("Text"):
        texts = alert["annotations"]
        assert texts.keys() == {"summary", "description"}
        assert "error expanding" not in str(texts)


def test_refused_secret_and_stopped_gateway_raise_their_alerts(
    gateway: Gateway, prometheus: Prometheus
) -> None:
    def others() -> set[str]:
        # On a busy machine the event loop can be slow, and that alert is right.
        firing = {alert["labels"]["alertname"] for alert in prometheus.firing("Campaign")}
        return firing - {"CampaignGatewayEventLoopSlow"}

    assert others() == set()
    assert gateway.copy("wrong-key")["status"] == "REJECTED"
    wait_until(lambda: others() == {"CampaignGatewaySecretRefused"})
    (alert,) = prometheus.firing("CampaignGatewaySecretRefused")
    assert alert["labels"]["provider"] == "sonarly"
    assert alert["labels"]["account"] == "wrong-key"
    gateway.command.kill()
    wait_until(lambda: prometheus.firing("CampaignGatewayDown") != [])
