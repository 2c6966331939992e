"""The registry of the metrics, and the count of what is refused before the gateway looks at it.

It knows no campaign, because the server and GraphQL over HTTP count here.
"""

from prometheus_client import CollectorRegistry, Counter, disable_created_metrics

# In the text format each of them would be one more series that no query uses.
disable_created_metrics()  # type: ignore[no-untyped-call]  # The library has no types for it.

REGISTRY = CollectorRegistry()

CALLER_REFUSALS = Counter(
    "campaign_gateway_caller_refusals_total",
    "Requests that were refused before anything of them was executed, by the code in the response.",
    ["code"],
    registry=REGISTRY,
)
