"""How long a caller waits after a provider has limited the rate of calls."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from campaign_gateway.connectors.contract import Connector, ProviderResponse
from campaign_gateway.model import ErrorCode, Rejected
from campaign_gateway.sandbox.contract_suite.ids import shown
from campaign_gateway.sandbox.contract_suite.subject import (
    assert_valid,
)


def test_rate_limit_has_the_delay_of_its_headers(
    connector: Connector[Any], copy_input: Any
) -> None:
    def seconds(**headers: str) -> int | None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        outcome = connector.parse_response(copy_input, ProviderResponse(429, named, b""))
        assert isinstance(outcome, Rejected)
        assert outcome.error.code == ErrorCode.RATE_LIMITED
        return outcome.error.retry_after

    def about(expected: int, actual: int | None) -> bool:
        return actual is not None and expected - 5 <= actual <= expected

    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    reset = str(int(time.time()) + 45)
    assert seconds() is None
    assert seconds(retry_after="30") == 30
    assert about(90, seconds(retry_after=soon))
    assert about(45, seconds(x_ratelimit_reset=reset))
    assert seconds(retry_after="30", x_ratelimit_reset=reset) == 30
    assert about(45, seconds(retry_after="", x_ratelimit_reset=reset))
    assert seconds(retry_after="", x_ratelimit_reset="") is None
    assert seconds(retry_after="Sat, 01 Jan 2022 00:00:00 GMT") == 0
    assert seconds(x_ratelimit_reset="1392815263") == 0
    assert seconds(x_ratelimit_reset="17") == 17
    assert seconds(retry_after="999999999") == 3600


STRANGE_DELAYS = [
    "-5", "1.5", "soon", "9" * 400, "1e3", "٣",
    "Mon, 99 Foo 2026 25:61:61 GMT",
    "Mon, 01 Jan 0000 00:00:00 GMT",
    "Mon, 01 Jan 9999 23:59:59 -2359",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    "Mon, 01 Jan 2026 00:00:00 +9999",
    "Mon, 01 Jan 2026 00:00:00 -0000",
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    "Mon, 01 Jan 2026 00:00:00 +99999999999999999999",
    "Mon, 01 Jan 2026 99999999999999999999:00:00 GMT",
]  # fmt: skip


@pytest.mark.parametrize("value", STRANGE_DELAYS, ids=shown)
@pytest.mark.parametrize("header", ["retry-after", "x-ratelimit-reset"])
def test_strange_delay_never_raises(
    connector: Connector[Any], copy_input: Any, header: str, value: str
) -> None:
    outcome = connector.parse_response(copy_input, ProviderResponse(429, {header: value}, b""))
    assert isinstance(outcome, Rejected)
    assert_valid(outcome)
