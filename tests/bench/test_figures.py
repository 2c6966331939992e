"""The cost of the ledger, callers, log and metrics. Machines differ, so no time is asserted."""

import sys
from pathlib import Path

import pytest

from bench import caller_cost, mutation_cost, observe_cost
from bench.ledger_cost import CALLERS, measure
from support.figures import Figures


@pytest.mark.parametrize("seconds", [0.4, pytest.param(5.0, marks=pytest.mark.long)])
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_cost_of_a_ledger_call_is_measured(
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
            # Callers who wait at the same time share a COMMIT.
            assert cost.writes_per_commit is not None
            assert cost.writes_per_commit > 1.5
        figures.measured[f"ledger in {engine}, {callers} callers"] = str(cost)


@pytest.mark.parametrize("requests", [1000, pytest.param(20_000, marks=pytest.mark.long)])
async def test_cost_of_finding_a_caller_is_measured(requests: int, figures: Figures) -> None:
    for name, microseconds in (await caller_cost.measure(requests)).items():
        figures.measured[f"finding the caller by a {name}"] = f"{microseconds:.0f} us CPU a request"


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads the CPU clock of another process")
def test_cost_of_callers_in_a_whole_mutation_is_measured(figures: Figures) -> None:
    for name, cost in mutation_cost.measure().items():
        figures.measured[f"callers in a mutation, {name}"] = str(cost)


@pytest.mark.parametrize("mutations", [1000, pytest.param(20_000, marks=pytest.mark.long)])
async def test_cost_of_log_and_metrics_is_measured(mutations: int, figures: Figures) -> None:
    for name, microseconds in (await observe_cost.measure(mutations)).items():
        figures.measured[name] = f"{microseconds:.0f} us CPU a mutation"
