"""How connectors narrow the search for a lost copy."""

from datetime import UTC, datetime
from typing import Any

import pytest

from campaign_gateway.connectors.contract import LostCopy
from campaign_gateway.sandbox.contract_suite.ids import shown

SINCE = datetime(2026, 5, 1, 11, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "name", [None, "A copy", " x ", "'", '"it\'s" \\ 5', "é&=,)(", "x" * 1000], ids=shown
)
def test_search_for_a_copy_goes_where_every_search_goes(
    connector: Any, copy_input: Any, name: str | None
) -> None:
    lost = LostCopy(name, SINCE)
    request = connector.build_copy_search(copy_input, "1", lost)
    usual = connector.build_search(copy_input, "1")
    assert request.url.partition("?")[0] == usual.url.partition("?")[0]
    # The same for each page, because some cursors are valid only with the same filters.
    assert request == connector.build_copy_search(copy_input, "1", lost)
