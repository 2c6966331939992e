"""Spans of operations and of calls to providers, by OpenTelemetry's API and semantic conventions.

No span has a document, an argument of GraphQL or the query of a URL. Without an SDK the spans are
not recorded.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, ProxyTracerProvider, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from campaign_gateway.observe.correlation import set_correlation_id
from campaign_gateway.observe.log import without_credentials

log = logging.getLogger(__name__)

# How long the end of the process waits for the collector, in seconds.
STOP_SECONDS = 2.0

# Characters of a name that a caller has chosen.
NAME_LENGTH = 100

# Spans are exported if one of them is set.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

HEADERS = {b"traceparent", b"tracestate"}

PORTS = {"http": 80, "https": 443}

_tracer = trace.get_tracer("campaign_gateway")
_propagator = TraceContextTextMapPropagator()


@contextmanager
def operation_span(
    operation_type: str, name: str | None, headers: Iterable[tuple[bytes, bytes]]
) -> Iterator[Span]:
    """Trace an operation of GraphQL, as a part of the trace that its HTTP headers name."""
    if not _has_sdk():
        yield INVALID_SPAN
        return
    carrier = {key.decode(): value.decode("latin-1") for key, value in headers if key in HEADERS}
    # In a new context, because the current one may be of an earlier request of the connection.
    with _span(operation_type, SpanKind.SERVER, _propagator.extract(carrier, Context())) as span:
        context = span.get_span_context()
        if context.is_valid:
            set_correlation_id(f"{context.trace_id:032x}")
        span.set_attribute("graphql.operation.type", operation_type)
        if name is not None:
            # A caller may confuse its fields, and send its key as the name.
            shown = without_credentials(name)[:NAME_LENGTH]
            span.set_attribute("graphql.operation.name", shown)
        try:
            yield span
        except Exception as error:
            mark_failed(span, type(error).__name__)
            raise


@contextmanager
def check_span(duplication_id: str) -> Iterator[Span]:
    """Trace a check of a duplication. It belongs to no request, so it has a trace of its own."""
    if not _has_sdk():
        yield INVALID_SPAN
        return
    with _span("check", SpanKind.INTERNAL, Context()) as span:
        span.set_attribute("campaign_gateway.duplication", duplication_id)
        yield span


@contextmanager
def call_span(method: str, url: str, redact: Callable[[bytes], bytes]) -> Iterator[Span]:
    """Trace a call to a provider. `redact` removes the account's secrets from the URL."""
    if not _has_sdk():
        yield INVALID_SPAN
        return
    with _span(method, SpanKind.CLIENT) as span:
        if span.is_recording():
            parts = urlsplit(url)
            host = parts.netloc.rpartition("@")[2]
            shown = redact(f"{parts.scheme}://{host}{parts.path}".encode()).decode()
            span.set_attribute("http.request.method", method)
            span.set_attribute("server.address", parts.hostname or "")
            span.set_attribute("server.port", parts.port or PORTS[parts.scheme])
            span.set_attribute("url.full", without_credentials(shown))
        yield span


def _span(
    name: str, kind: SpanKind, context: Context | None = None
) -> AbstractContextManager[Span]:
    # The SDK would record the message of an exception, which may have an argument in it.
    return _tracer.start_as_current_span(
        name, context, kind, record_exception=False, set_status_on_exception=False
    )


def mark_failed(span: Span, error_type: str) -> None:
    """Mark a span as failed. `error_type` is one of few names."""
    span.set_attribute("error.type", error_type)
    span.set_status(StatusCode.ERROR)


def _has_sdk() -> bool:
    # The spans of the API alone do nothing, and cost 20 microseconds a mutation.
    return not isinstance(trace.get_tracer_provider(), ProxyTracerProvider)


def export_spans(version: str) -> Callable[[], None]:
    """Start to export spans, if the environment names a collector. Return what stops it.

    The standard variables of OpenTelemetry configure it. A provider of spans that was set before,
    for example by `opentelemetry-instrument`, stays.
    """
    is_wanted = any(os.environ.get(name) for name in ENDPOINTS)
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not is_wanted or is_disabled or _has_sdk():
        return lambda: None
    if find_spec("opentelemetry.sdk") is None or find_spec("opentelemetry.exporter") is None:
        log.warning("traces need: pip install 'campaign-gateway[traces]'")
        return lambda: None
    return _export_spans(version)


def _export_spans(version: str) -> Callable[[], None]:
    # An extra.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    service = Resource({"service.name": "campaign-gateway", "service.version": version})
    # It waits for the collector, without a limit, if it stops by itself at the end of the process.
    provider = TracerProvider(
        resource=service.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    # It warns before each of its retries.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)

    def stop() -> None:
        stopping = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
        stopping.start()
        stopping.join(STOP_SECONDS)

    return stop
