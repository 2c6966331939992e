"""What the ledger costs, for the report. Machines differ, so no time is asserted."""

from pathlib import Path

import pytest

from bench.ledger_cost import CALLERS, measure
from support.figures import Figures


@pytest.mark.parametrize("seconds", [0.4, pytest.param(5.0, marks=pytest.mark.long)])
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_the_ledger_s_cost_is_measured(
    engine: str, seconds: float, tmp_path: Path, request: pytest.FixtureRequest, figures: Figures
) -> None:
    if engine == "sqlite":
        url = f"sqlite:///{tmp_path}/ledger.db"
    else:
        url = request.getfixturevalue("postgres_url")
    for callers in CALLERS:
        cost = await measure(url, callers, seconds)
        assert cost.calls >= callers
        if engine == "sqlite" and callers > 1:
            # What makes it cheap: callers who wait together share a COMMIT.
            assert cost.writes_per_commit is not None
            assert cost.writes_per_commit > 1.5
        figures.measured[f"ledger in {engine}, {callers} callers"] = str(cost)
