"""Spans as a collector receives them, and a collector that never responds."""

import asyncio
import json
import socket
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from campaign_gateway.observe.traces import export_spans
from campaign_gateway.web.callers.keys import create_key
from support.collector import Collector, collecting, environment
from support.faulty_provider import API_KEY, AUDIENCE, Provider, faulty_provider
from support.gateways import MUTATION, Gateway, ask, calling, configuration, intent, serving

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
CANARY = "canary-in-an-argument"


def attributes(span: Span) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def config_of(folder: Path, url: str) -> Path:
    return configuration(folder, f"sqlite:///{folder}/ledger.db", {"main": url}, timeout=2)


async def mutate(
    gateway: Gateway, provider: Provider, group: str, fault: str = "none", **headers: str
) -> Any:
    wanted = intent(fault, group, "main")
    provider.names[wanted.name] = CANARY
    campaign = {
        "account": "main",
        "accountGroupId": group,
        "campaignId": f"{fault}--{wanted.name}",
        "audienceId": AUDIENCE,
        "name": CANARY,
    }
    body = {"query": MUTATION, "variables": {"campaign": campaign, "key": wanted.key}}
    async with calling() as http:
        response = await http.post(f"{gateway.url}/graphql", json=body, headers=headers)
    return response.json()


async def test_spans_follow_the_conventions_and_show_no_argument(tmp_path: Path) -> None:
    with faulty_provider() as provider, collecting(Collector()) as collector:
        config = config_of(tmp_path, provider.url)
        async with serving(config, environment=environment(collector.url)) as gateway:
            parent = f"00-{TRACE_ID}-{PARENT_ID}-01"
            traced = await mutate(gateway, provider, "plain--0", traceparent=parent)
            lost = await mutate(gateway, provider, "plain--1", "fin-after-copy")
            refused = await mutate(gateway, provider, "plain--2", "refusal-401")
            async with asyncio.timeout(30):
                while '"by":"search"' not in gateway.output():
                    await asyncio.sleep(0.05)
            assert await gateway.stop() == 0
            lines = [json.loads(line) for line in gateway.output().splitlines()]
        assert traced["data"]["duplicateCampaign"]["status"] == "CREATED"
        spans = collector.spans()
        (resource,) = {
            each.value.string_value
            for request in collector.requests()
            for sent in request.resource_spans
            for each in sent.resource.attributes
            if each.key == "service.version"
        }
    assert resource == version("campaign-gateway")
    servers = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    assert [span.name for span in servers] == ["mutation"] * 3
    for span in servers:
        assert attributes(span) == {
            "graphql.operation.type": "mutation",
            "graphql.operation.name": "Copy",
        }
    first, second, third = servers
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    # Without a header too, the id in the response and in the log is the trace's.
    for span, content in ((second, lost), (third, refused)):
        identifier = content["extensions"]["correlationId"]
        assert span.trace_id.hex() == identifier
        assert [line for line in lines if line.get("correlation_id") == identifier]

    def call_of(server: Span) -> Span:
        (call,) = (span for span in spans if span.parent_span_id == server.span_id)
        assert (call.kind, call.name) == (Span.SPAN_KIND_CLIENT, "POST")
        assert call.trace_id == server.trace_id
        return call

    made = call_of(first)
    host, _, port = provider.url.removeprefix("http://").partition(":")
    shown = attributes(made)
    assert shown.pop("url.full").startswith(f"{provider.url}/v1/accounts/plain--0/campaigns/none--")
    assert shown == {
        "http.request.method": "POST",
        "server.address": host,
        "server.port": int(port),
        "http.response.status_code": 201,
        "campaign_gateway.account": "main",
        "campaign_gateway.provider": "sonarly",
        "campaign_gateway.call": "copy",
    }
    assert attributes(call_of(second))["error.type"] == "closed"
    assert attributes(call_of(third))["error.type"] == "401"
    assert call_of(third).status.code == Status.STATUS_CODE_ERROR
    check = next(span for span in spans if span.name == "check")
    assert check.trace_id not in {span.trace_id for span in servers}
    assert check.parent_span_id == b""
    search = next(span for span in spans if span.parent_span_id == check.span_id)
    assert attributes(search)["campaign_gateway.call"] == "search"
    assert "?" not in attributes(search)["url.full"]
    for body in collector.bodies:
        for secret in (CANARY, API_KEY, "duplicateCampaign", "idempotencyKey"):
            assert secret.encode() not in body


async def test_key_that_a_caller_sends_in_a_wrong_place_is_not_in_a_span(tmp_path: Path) -> None:
    key, _ = create_key()
    with faulty_provider() as provider, collecting(Collector()) as collector:
        config = config_of(tmp_path, provider.url)
        async with serving(config, environment=environment(collector.url)) as gateway:
            await mutate(gateway, provider, key)
            async with calling() as http:
                body = {"query": f"query {key} {{ __typename }}"}
                response = await http.post(f"{gateway.url}/graphql", json=body)
                assert response.json()["data"] == {"__typename": "Query"}
            assert await gateway.stop() == 0
    shown = [attributes(span) for span in collector.spans()]
    public = key.rpartition("_")[0]
    names = [each.get("graphql.operation.name") for each in shown]
    assert f"{public}_[redacted]" in names
    assert any(f"/accounts/{public}_[redacted]" in each.get("url.full", "") for each in shown)
    assert not any(key.rpartition("_")[2].encode() in body for body in collector.bodies)


async def test_collector_that_never_responds_delays_only_the_stop_and_not_for_long(
    tmp_path: Path,
) -> None:
    with faulty_provider() as provider, socket.create_server(("127.0.0.1", 0)) as hanging:
        port = hanging.getsockname()[1]
        config = config_of(tmp_path, provider.url)
        collector = environment(f"http://127.0.0.1:{port}")
        async with serving(config, environment=collector) as gateway, calling() as http:
            for _ in range(10):
                response = await ask(http, gateway.url, intent("none", "plain--0", "main"))
                assert response is not None
                assert response.status == "CREATED"
            began_at = monotonic()
            assert await gateway.stop() == 0
            # Without a bound it takes half a minute.
            assert monotonic() - began_at < 15
        hanging.settimeout(10)
        connection, _ = hanging.accept()
        connection.close()


@pytest.mark.parametrize("name", ["OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_nothing_is_exported_unless_it_is_wanted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(name, "true" if name == "OTEL_SDK_DISABLED" else "")
    before = trace.get_tracer_provider()
    export_spans("1")()
    assert trace.get_tracer_provider() is before
